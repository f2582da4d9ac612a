# The files to compile. A function that is declared in generated/hello_world_dispatch.h and is in none of them is a link error.
global-incdirs-y += . generated
srcs-y += hello_world.c
srcs-y += generated/hello_world_dispatch.c

cflags-y += -Wall -Wextra -Werror

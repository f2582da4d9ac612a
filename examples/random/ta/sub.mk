# The files to compile. A function that is declared in generated/random_dispatch.h and is in none of them is a link error.
global-incdirs-y += . generated
srcs-y += random.c
srcs-y += generated/random_dispatch.c

cflags-y += -Wall -Wextra -Werror

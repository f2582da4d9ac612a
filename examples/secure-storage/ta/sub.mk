# The files to compile. A function that is declared in generated/secure_storage_dispatch.h and is in none of them is a link error.
global-incdirs-y += . generated
srcs-y += secure_storage.c
srcs-y += generated/secure_storage_dispatch.c

cflags-y += -Wall -Wextra -Werror

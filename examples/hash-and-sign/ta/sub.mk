# The files to compile. A function that is declared in generated/hash_and_sign_dispatch.h and is in none of them is a link error.
global-incdirs-y += . generated
srcs-y += hash_and_sign.c
srcs-y += generated/hash_and_sign_dispatch.c

cflags-y += -Wall -Wextra -Werror

# The files to compile. A function that is declared in generated/http_service_dispatch.h and is in none of them is a link error.
global-incdirs-y += . generated
srcs-y += http_service.c
srcs-y += generated/http_service_dispatch.c

cflags-y += -Wall -Wextra -Werror

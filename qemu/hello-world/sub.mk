srcs-y += hello_world.c

cflags-y += -Wall -Wextra -Werror

global-incdirs-y += include generated

srcs-y += entry.c
srcs-y += params.c
srcs-y += values.c
srcs-y += memory.c
srcs-y += control.c
srcs-y += inspect.c
srcs-y += storage.c
srcs-y += forward.c
srcs-y += ends.c
srcs-y += hostile.c
srcs-y += generated/test_ta_dispatch.c

cflags-y += -Wall -Wextra -Wpointer-arith -Wshadow -Werror

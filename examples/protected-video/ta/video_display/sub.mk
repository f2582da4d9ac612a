# The files to compile. A function that is declared in generated/video_display_dispatch.h and is in none of them is a link error.
global-incdirs-y += . generated
srcs-y += video_display.c
srcs-y += generated/video_display_dispatch.c

cflags-y += -Wall -Wextra -Werror

/* The subjects of the guest's agent, a file each. */
#ifndef NODE_OPTEE_AGENT_H
#define NODE_OPTEE_AGENT_H

#include <sys/types.h>

/* Groups of qemu/rootfs/etc/group. */
enum { TTY_GID = 5, VIDEO_GID = 44, TEE_GID = 500 };

/* init.c: makes a machine of a kernel that has just started PID 1. What fails is said on the console. */
void init_machine(void);

/* init.c: waits until OP-TEE can be used. Returns what is wrong with it, NULL if nothing is. */
const char *wait_for_tee(void);

/* init.c: a child of PID 1 has ended. If it was tee-supplicant, another one is started after a while. */
void supplicant_ended(pid_t pid, int status);

/* init.c: starts tee-supplicant if it is time to. Returns the milliseconds until then, -1 if it is up. */
int tend_supplicant(void);

/* setup.c: prepares a booted guest for one host. Returns an exit status. */
int set_up(int count, char **words);

/* port.c: the descriptor of the port to the host; -1 if there is none, even after a while. */
int wait_for_port(void);

/* agent.c: serves the host on this port; does not return. */
_Noreturn void serve(int port);

#endif

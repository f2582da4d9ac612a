/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef PARALLEL_H
#define PARALLEL_H

#include "common.h"

/* `rounds` calls on each of so many threads; their time together, divided by all calls. */
int measure_parallel(const struct client *client, const struct bench_case *bench_case, unsigned int threads,
                     unsigned int rounds, uint64_t *ns_per_call);

#endif

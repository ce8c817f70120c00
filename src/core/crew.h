/* The workers of a batcher: how many there are, whom a hint wakes, and when
 * they leave.  Their threads are started and run by the binding.
 */
#ifndef AB_CORE_CREW_H
#define AB_CORE_CREW_H

#include "core/batcher.h"

/* Waiting is detached; every worker holds a count.  True: a batch
 * may be due, cut it.  False: leave; the worker is no longer counted, and may
 * have been the last that a stop waited for: see the outboxes of loops that
 * watch no fd. */
bool ab_worker_wait(struct ab_batcher *batcher, bool is_new);
void ab_worker_failed_to_start(struct ab_batcher *batcher);
void ab_workers_quit(void);   // the interpreter ends: all leave when idle
void ab_workers_resume(void); // a new interpreter begins
bool ab_workers_are_quitting(void);

#endif

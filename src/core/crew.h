/* The workers of a batcher: how many there are, whom a hint wakes, and when
 * they leave; and those of all batchers, for the exit.  Their threads are
 * started and run by the binding.
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

/* The worker cuts nothing though it has the hint: whoever comes next may. */
void ab_worker_return_hint(struct ab_batcher *batcher);

/* Count a worker in or out, of all batchers': whom the exit waits for. */
void ab_workers_count(int change);
bool ab_workers_wait_for_none(int64_t longest_ns); // detached; are there none?

/* Thousands that leave at once, and all wait for the interpreter lock, wake up
 * every few ms and keep the cores from whoever has it.  So they stand in line,
 * detached, and one at a time waits for that lock. */
void ab_workers_line_up(void) AB_UNCHECKED;
void ab_workers_move_up(void) AB_UNCHECKED;

void ab_workers_quit(void);   // the interpreter ends: all leave when idle
void ab_workers_resume(void); // a new interpreter begins
bool ab_workers_are_quitting(void);

/* Fork: the lock of the count is held together with no other but here.  The
 * child has no worker.  One that forked is its batcher's again as it comes
 * back; the exit, which may run inside its batch, never waits for it. */
void ab_workers_before_fork(void) AB_UNCHECKED;
void ab_workers_after_fork_parent(void) AB_UNCHECKED;
void ab_workers_after_fork_child(void) AB_UNCHECKED;

#endif

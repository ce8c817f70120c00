/* What callers do with a batcher: hand in items, wait, flush, begin to stop.
 */
#ifndef AB_CORE_INTAKE_H
#define AB_CORE_INTAKE_H

#include "core/batcher.h"

/* Accept `count` entries, all or none, from a caller that runs on `loop`, or
 * on none: AB_OK, AB_FULL, AB_CLOSED, AB_QUITTING, AB_NO_HOST, AB_NO_LINK or
 * AB_NO_MEMORY. */
enum ab_status ab_batcher_push(struct ab_batcher *batcher, void *loop,
                               struct ab_entry *entries, size_t count,
                               struct ab_todo *todo);

/* Queue entries[0] behind all that wait for space; entries[1] is told when
 * it is admitted, which may be before this returns.  `number` names the
 * pair.  As push, but that it is never full. */
enum ab_status ab_batcher_wait_for_space(struct ab_batcher *batcher,
                                         void *loop,
                                         const struct ab_entry entries[2],
                                         uint64_t *number,
                                         struct ab_todo *todo);

/* Is there an open loop for the batches of a caller without one, or is none
 * needed?  Closed batchers need none: they refuse. */
bool ab_batcher_has_host(struct ab_batcher *batcher);

/* Do callers wait for space? */
bool ab_batcher_has_backlog(struct ab_batcher *batcher);

/* Let the other loops look at those of their waiters that are queued. */
void ab_batcher_alert_loops(struct ab_batcher *batcher, void *own_loop);

/* Count an item that was refused before it got here. */
void ab_batcher_count_rejected(struct ab_batcher *batcher, size_t count);

/* Have `watcher` told when nothing is queued, running or untold; one of the
 * kind AB_STOPPER when nothing is queued or running. */
enum ab_status ab_batcher_watch(struct ab_batcher *batcher, void *loop,
                                const struct ab_entry *watcher,
                                struct ab_todo *todo);

/* Dispatch what is queued now, without waiting for windows. */
void ab_batcher_flush(struct ab_batcher *batcher, struct ab_mailbox *own,
                      struct ab_todo *todo);

/* Take no new entries; what is queued goes at once. */
void ab_batcher_begin_drain(struct ab_batcher *batcher, struct ab_mailbox *own,
                            struct ab_todo *todo);

/* Make `loop` the home: the home's loop does not run any more. */
void ab_batcher_move_home(struct ab_batcher *batcher, void *loop);

/* The first use starts the account of busy and idle time. */
void ab_batcher_begin(struct ab_batcher *batcher);

/* Take entries again after a drain; the account goes on. */
void ab_batcher_reopen(struct ab_batcher *batcher);

#endif

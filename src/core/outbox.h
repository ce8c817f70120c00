/* Outboxes: how each waiter is told on its own loop, in the order in which
 * results came.
 *
 * An outbox is a list through the entries of settled batches, one for each
 * link.  The loop of the link takes from it, in pieces; waiters of no loop, or
 * of a closed one, are a stray's: whoever comes takes them.
 */
#ifndef AB_CORE_OUTBOX_H
#define AB_CORE_OUTBOX_H

#include "core/batcher.h"

/* One waiter to tell: both references are the taker's. */
struct ab_parcel {
    void *value, *waiter;
    uint8_t kind; // enum ab_kind
    uint32_t index;
    bool is_failed;
};

/* Take up to `count` parcels out of the link's outbox.  Thread: loop. */
size_t ab_link_take(struct ab_link *link, struct ab_parcel *parcels,
                    size_t count);

/* How many are told each way. */
struct ab_told {
    size_t completed, failed, cancelled; // items
    size_t uncounted;                    // AB_SPACE and AB_SILENT
    size_t rejected;                     // of those, refused
    size_t watchers;
};

/* They are about to be told: from here on the statistics have them. */
void ab_link_count(struct ab_link *link, const struct ab_told *told);

/* They have been told: whoever waits for idleness may be due in an outbox
 * now. */
void ab_link_told(struct ab_link *link, const struct ab_told *told,
                  struct ab_todo *todo);

/* What the outboxes need of the caller, one thing at a time: parcels that are
 * told on no loop, taken out of `link`, whose loop is none or closed; or, in
 * `wake` and acquired, a mailbox whose loop must be woken.  0 and NULL: all is
 * known where it belongs. */
size_t ab_batcher_take_stray(struct ab_batcher *batcher,
                             struct ab_parcel *parcels, size_t count,
                             struct ab_link **link, struct ab_mailbox **wake);

/* Have those who wait for idleness told now: a forced stop waits for nothing.
 */
void ab_batcher_tell_watchers(struct ab_batcher *batcher);

/* Inside the mutex: move the entries of a batch to their outboxes; those who
 * wait for idleness, too, if nothing is left to do; those who stop the batcher
 * once nothing is queued or runs. */
void ab_batch_publish_locked(struct ab_batch *batch);
void ab_batcher_tell_idle_locked(struct ab_batcher *batcher);
bool ab_batcher_is_drained_locked(const struct ab_batcher *batcher);

#endif

/* From the cut to the last waiter: entries that left the queue, the permit
 * they hold, and the outboxes by which each waiter is told on its own loop.
 *
 * A batch is cut late, by its host: `cut` takes the permit, `fill` is called
 * until it brings nothing more (the host looks in between which of the new
 * waiters are gone; only Python can tell), `start` closes it.  Results are
 * put in by `store`; `settle` gives the permit back and moves every entry to
 * the outbox of its link, from where its loop takes it.  Outboxes are lists
 * through the entries themselves, so nothing after the cut allocates and
 * nothing can fail.
 *
 * The same structure carries everything that is told without being run:
 * refusals, callers that wait for space (two entries: theirs, and the one to
 * be queued), and callers that wait for idleness.
 *
 * Lifetime: a batch is in one list of its batcher from creation to the end.
 * It ends when it holds no permit, nobody is left to be told, and the host
 * has let go.
 */
#ifndef AB_CORE_BATCH_H
#define AB_CORE_BATCH_H

#include "core/batcher.h"

struct ab_batch {
    struct ab_batcher *batcher; // borrowed; the batch is in its list
    struct ab_batch *next, *prev;
    struct ab_batch_list *list;
    struct ab_entry *entries;
    size_t length, capacity;
    uint64_t number; // unlike any other of this batcher
    // While it forms: entries whose waiters were looked at, and left.
    size_t checked, live;
    struct ab_cost cost;
    size_t untold;        // entries in outboxes
    struct ab_link *host; // counted in its pending; NULL: a worker
    enum ab_reason reason;
    int64_t started_ns;
    bool is_running; // holds a permit
    bool is_forming; // running, but its items are still being taken out
    bool is_abandoned; // by a forced stop; its worker is not waited for
    bool is_aborted; // while forming: everybody was to be refused
    bool is_settled; // entries are in their outboxes
    bool is_failed;  // the values are exceptions to raise
    size_t holders; // hosts that may still name it
    void *task;           /* owned by the host; what runs it */
    atomic_ulong thread;  // that runs its code now; 0: none
};

/* Take a permit for a batch that `host` (NULL: a worker) will run, if one is
 * due; it has no entries yet.  Answers the hint either way. AB_OK with `out`
 * NULL when nothing is due; AB_NO_MEMORY: it is tried again. */
enum ab_status ab_batch_cut(struct ab_batcher *batcher, struct ab_link *host,
                            struct ab_batch **out, struct ab_todo *todo);

/* Count those of the new entries gone whose waiter is NULL by now, then add
 * what still fits.  How many were added; needed again only if the caller set
 * some of them aside. */
size_t ab_batch_fill(struct ab_batch *batch, struct ab_todo *todo);

/* The batch is complete: entries[0 .. length) are its items.  False if all
 * are gone; then the permit is back and the batch is no more. */
bool ab_batch_start(struct ab_batch *batch, struct ab_todo *todo);

/* The items are out of the entries, which may be collected from here on.
 * False: everybody was to be refused meanwhile. */
bool ab_batch_formed(struct ab_batch *batch);

/* Swap `rows` into the values of entries[from ..] that still wait.  What is
 * in `rows` afterwards is the caller's to drop. */
void ab_batch_store(struct ab_batch *batch, size_t from, void **rows,
                    size_t count);

/* The one place where a permit is given back.  Entries go to their outboxes.
 * Done twice, the second does nothing. */
void ab_batch_settle(struct ab_batch *batch, bool is_failed,
                     struct ab_mailbox *own, struct ab_todo *todo);

/* The host lets go of a settled batch and may not name it again. */
void ab_batch_let_go(struct ab_batch *batch);

enum ab_collect {
    AB_COLLECT_QUEUE = 1,
    AB_COLLECT_BACKLOG = 2,
    AB_COLLECT_RUNNING = 4,
};

/* Move the waiting entries of `link` (NULL: of all) from where `what` says
 * into a batch of their own that the caller holds and that has no permit: to be stored
 * into and settled, or dropped.  `out` NULL where there are none. */
enum ab_status ab_batch_collect(struct ab_batcher *batcher,
                                struct ab_link *link, unsigned what,
                                struct ab_batch **out);

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

/* They are being told: so many each way.  Whoever waits for idleness may be
 * due in an outbox afterwards. */
struct ab_told {
    size_t completed, failed, cancelled; // items
    size_t uncounted;                    // AB_SPACE and AB_SILENT
    size_t watchers;
};
void ab_link_told(struct ab_link *link, const struct ab_told *told,
                  struct ab_todo *todo);

/* What the outboxes need of the caller, one thing at a time: parcels that are
 * told on no loop, taken out of `link`, whose loop is none or closed; or, in
 * `wake` and acquired, a mailbox whose loop must be woken.  0 and NULL: all is
 * known where it belongs. */
size_t ab_batcher_take_stray(struct ab_batcher *batcher,
                             struct ab_parcel *parcels, size_t count,
                             struct ab_link **link, struct ab_mailbox **wake);

/* Have those who wait for idleness told now: a forced stop waits for nothing. */
void ab_batcher_tell_watchers(struct ab_batcher *batcher);

/* Drop entry `number` of the queue: its waiter is gone. */
bool ab_batcher_drop(struct ab_batcher *batcher, uint64_t number,
                     struct ab_entry *out, struct ab_todo *todo);

/* The same for a caller in the backlog. Both entries. */
bool ab_batcher_withdraw(struct ab_batcher *batcher, uint64_t number,
                         struct ab_entry out[2], struct ab_todo *todo);

/* A batch that runs on the loop of `link`, held anew, or NULL. */
struct ab_batch *ab_batcher_hosted_by(struct ab_batcher *batcher,
                                      struct ab_link *link);

/* The batcher's home, if it is in `mailbox`, which closed: its loss is to be
 * reported even where nobody waits on it.  Named until ab_batcher_lost_loop. */
struct ab_link *ab_batcher_pop_home(struct ab_batcher *batcher,
                                    struct ab_mailbox *mailbox);

/* The loop of `link` closed: find another home, and decide again. */
void ab_batcher_lost_loop(struct ab_batcher *batcher, struct ab_link *link,
                          struct ab_todo *todo);

/* Inside the mutex. */
struct ab_batch *ab_batch_new_locked(struct ab_batcher *batcher,
                                     struct ab_batch_list *list,
                                     size_t capacity);
void ab_batch_publish_locked(struct ab_batch *batch);
void ab_batch_end_locked(struct ab_batch *batch); // frees it if it may
void ab_backlog_admit_locked(struct ab_batcher *batcher);
void ab_batcher_tell_idle_locked(struct ab_batcher *batcher);

#endif

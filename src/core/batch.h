/* Entries that left the queue together, and the permit they hold: from the
 * cut to the results.
 *
 * A batch is cut late, by its host: `cut` takes the permit, `fill` is called
 * until it brings nothing more (the host looks in between which of the new
 * waiters are gone; only Python can tell), `start` closes it.  A loop that
 * hosts a very large one goes round between the pieces: `pause`, `resume`.
 * Results are put in by `store`; `settle` gives the permit back and moves
 * every entry to the outbox of its link (outbox.h).  Nothing after the cut
 * allocates, so nothing there can fail for lack of memory.
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
    // While it forms: entries whose waiters were looked at, and how many more
    // it has to take of those that were queued at the cut.
    size_t checked, due;
    struct ab_cost cost;
    size_t untold;        // entries in outboxes
    struct ab_link *host; // counted in its pending; NULL: a worker
    enum ab_reason reason;
    int64_t started_ns;
    bool is_running;     // holds a permit
    bool is_forming;     // running, but its items are still being taken out
    bool is_abandoned;   // by a forced stop; its worker is not waited for
    bool is_aborted;     // everybody was to be refused, or is the parent's
    bool is_settled;     // entries are in their outboxes
    bool is_failed;      // the values are exceptions to raise
    size_t holders;      // hosts that may still name it
    void *task;          /* owned by the host; what runs it */
    atomic_ulong thread; // that runs its code now; 0: none
};

/* Take a permit for a batch that `host` (NULL: a worker) will run, if one is
 * due; it has no entries yet.  Answers the hint either way. AB_OK with `out`
 * NULL when nothing is due; AB_NO_MEMORY: it is tried again. */
enum ab_status ab_batch_cut(struct ab_batcher *batcher, struct ab_link *host,
                            struct ab_batch **out, struct ab_todo *todo);

/* Take those of the new entries out whose waiter is NULL by now, then add what
 * still fits, `most` entries at most.  How many were added, behind all others;
 * needed again only if the caller set some aside, or more are due. */
size_t ab_batch_fill(struct ab_batch *batch, size_t most,
                     struct ab_todo *todo);

/* The host does something else between two pieces: meanwhile the batch is like
 * one that runs, and may be refused or rejected.  False: it was, and is only
 * to be settled. */
void ab_batch_pause(struct ab_batch *batch, struct ab_todo *todo);
bool ab_batch_resume(struct ab_batch *batch);

/* The batch is complete: entries[0 .. length) are its items.  False if all
 * are gone; then the permit is back and the batch is no more.  So in the child
 * of a fork, where nothing is added to a batch of the parent's, either. */
bool ab_batch_start(struct ab_batch *batch, struct ab_todo *todo);

/* The items are out of the entries, which may be collected from here on.
 * False: everybody was to be refused meanwhile; else code of the user runs, on
 * that `thread` of ours, which may be given up, or elsewhere (0). */
bool ab_batch_formed(struct ab_batch *batch, unsigned long thread);

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

/* Inside the mutex. */
struct ab_batch *ab_batch_new_locked(struct ab_batcher *batcher,
                                     struct ab_batch_list *list,
                                     size_t capacity);
void ab_batch_end_locked(struct ab_batch *batch); // frees it if it may
void ab_batch_list_append(struct ab_batch_list *list, struct ab_batch *batch);
void ab_batch_list_remove(struct ab_batch *batch);

#endif

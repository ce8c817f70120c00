/* How a thread that is not attached to Python reaches an event loop: one
 * mailbox per loop, shared by all batchers.
 *
 * A letter is a link that wants its loop's attention: a batch is due there,
 * or waiters of that loop can be told.  Letters are intrusive, so posting
 * never allocates and never fails.  The wake-up is an eventfd (a pipe where
 * there is none) that the loop watches; it is written only when the list of
 * letters goes from empty to not empty, and read before the list is taken:
 * in the other order a letter posted in between would wake nobody.  The fd
 * is written, read and closed only under the mutex: written after a close,
 * it would hit the stranger who got its number.
 *
 * Lifetime: counted.  The reader (the object by which the loop owns its
 * mailbox) holds one count, every link one, an armed timer one.  When the
 * loop closes it drops the reader, and the reader closes the mailbox.
 */
#ifndef AB_CORE_MAILBOX_H
#define AB_CORE_MAILBOX_H

#include "core/aggregator.h"
#include "core/base.h"
#include "core/sync.h"
#include "core/wakefd.h"

struct ab_batcher;
struct ab_entry;

/* One loop's side of one batcher: who waits there, and what to tell them. */
struct ab_link {
    struct ab_batcher *batcher; // borrowed; its links go with it
    struct ab_mailbox *mailbox; // counted; NULL: callers without a loop
    struct {                    // under the batcher's mutex
        struct ab_link *next;
        size_t pending;   // entries queued and not told, and batches hosted
        int64_t retry_ns; // its loop keeps that time itself; AB_NEVER
        bool sweeps_soon; // its loop was asked to look for cancelled items
        struct ab_entry *outbox, **outbox_end; // to be told, oldest first
    } synced_data;
    bool starts_run; // its loop's thread alone: it is about to start a run
    struct {         // under the mailbox's mutex
        struct ab_link *next_letter;
        bool is_posted;
        /* The mailbox keeps the batcher's object alive while pending > 0. */
        struct ab_link *next_kept, **kept_slot;
        bool is_popped; // whoever closes the mailbox still names it
    } mailbox_data;
};

struct ab_mailbox {
    struct ab_count refs;
    struct ab_timer timer;           // see ab_yield_ask
    struct ab_mailbox *next, **slot; // in the registry
    bool has_fd;          // constant; false: the loop cannot watch one
    _Atomic(void *) loop; /* borrowed; the reader keeps it; NULL: closed */
    struct {              // the loop's thread alone
        struct ab_link *letters, **letters_end; // taken, not yet read
        int64_t told_since_ns; // the current span, and how many were told
        size_t told;           // in it outside the reader
    } thread_data;
    struct ab_mutex mutex;
    struct {
        void *reader_proxy; /* owned by the reader: a weak proxy of it */
        struct ab_link *letters, **letters_end;
        struct ab_link *kept;
        struct ab_wakefd wakefd;
        bool is_closed;
        bool is_yield_wanted;
        bool is_unheard; // its fd could not be written; the timer tries again
        bool is_asleep;  // it has no fd, and could not be called: post again
        int64_t yield_asked_ns, yield_pause_ns;
        int64_t yield_peace_ns; // it is not asked again before that time
    } synced_data;
};

/* A new mailbox in the registry, its fd created.  Where no fd can be had the
 * mailbox is made without one.  AB_OK or AB_NO_MEMORY. */
enum ab_status ab_mailbox_new(struct ab_mailbox **out, bool wants_fd);
void ab_mailbox_acquire(struct ab_mailbox *mailbox);
void ab_mailbox_release(struct ab_mailbox *mailbox);
struct ab_mailbox *ab_mailbox_of_timer(struct ab_timer *timer);

/* The open mailbox of `loop`, acquired, or NULL. */
struct ab_mailbox *ab_mailbox_find(void *loop);

/* Take no more letters, close the fd, forget the loop.  The kept links stay
 * for the caller to release one by one.  Thread: loop. */
void ab_mailbox_close(struct ab_mailbox *mailbox);

enum ab_posted {
    AB_POSTED,      // the loop knows, or is woken by its fd
    AB_POSTED_WAKE, // the loop must be woken by the caller, who is attached
    AB_POST_CLOSED, // the loop is closed: nothing was posted
};

/* Post `link`.  With `by_fd` the loop is woken by its fd, if it has one and
 * no earlier letter woke it.  Thread: any. */
enum ab_posted ab_mailbox_post(struct ab_mailbox *mailbox,
                               struct ab_link *link, bool by_fd);

/* Write the fd, whatever was posted: for a caller whose own way failed. */
void ab_mailbox_write_fd(struct ab_mailbox *mailbox);

/* A loop without an fd could not be called, for want of stack or memory: the
 * next letter, also one that lies there already, wakes it. */
void ab_mailbox_sleeps_on(struct ab_mailbox *mailbox);
void ab_mailbox_write_fd_locked(struct ab_mailbox *mailbox)
    AB_REQUIRES(mailbox -> mutex);

/* Empty the fd and take all letters.  True if the loop is asked to let other
 * threads run.  Thread: loop. */
bool ab_mailbox_take(struct ab_mailbox *mailbox);

/* The next letter that was taken, or NULL.  The caller owns a count on its
 * batcher, and from here on the link may be posted again.  Thread: loop. */
struct ab_link *ab_mailbox_next(struct ab_mailbox *mailbox);
bool ab_mailbox_has_next(const struct ab_mailbox *mailbox);

/* Begin and end to keep the batcher's object alive, as pending leaves and
 * reaches zero. */
void ab_mailbox_keep(struct ab_mailbox *mailbox, struct ab_link *link);
void ab_mailbox_unkeep(struct ab_mailbox *mailbox, struct ab_link *link);

/* Take a link, its batcher acquired, off a closed mailbox's kept ones, each
 * once; NULL at the end.  The reference it kept stays with `pending`. */
struct ab_link *ab_mailbox_pop_kept(struct ab_mailbox *mailbox);
void ab_mailbox_pop(struct ab_mailbox *mailbox, struct ab_link *link);
void ab_mailbox_unpop(struct ab_mailbox *mailbox, struct ab_link *link);

/* Does a letter or a close still name the link? */
bool ab_mailbox_names(struct ab_mailbox *mailbox, const struct ab_link *link);

/* The child of a fork has none of the parent's loops: close, write nothing,
 * forget every letter. */
void ab_mailbox_after_fork_child(struct ab_mailbox *mailbox) AB_UNCHECKED;

#endif

#ifdef __linux__
#define _GNU_SOURCE // pipe2
#elif !defined(_WIN32) && !defined(_POSIX_C_SOURCE)
#define _POSIX_C_SOURCE 200809L
#endif

#include "core/mailbox.h"

#include "core/batcher.h"
#include "core/clock.h"
#include "core/registry.h"

#ifndef _WIN32
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#endif
#ifdef __linux__
#include <sys/eventfd.h>
#endif

static atomic_size_t sync_batches; // running or waiting to run

#define AB_YIELD_DELAY_NS 2000000    // a batch shorter than this asks nobody
#define AB_YIELD_SHORT_NS 1000000    // away for less: nobody took the lock
#define AB_YIELD_IDLE_NS 200000      // answered within this: the loop idles
#define AB_YIELD_MAX_PAUSE_NS 64000000
#define AB_YIELD_SHARE 20            // a short yield costs the loop 1 in 20

/* ---- the wake-up fd ---- */

#if defined(__linux__)

static void
open_fds(struct ab_mailbox *mailbox)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    mailbox->synced_data.read_fd = mailbox->synced_data.write_fd = fd;
}

#elif !defined(_WIN32)

static void
open_fds(struct ab_mailbox *mailbox)
{
    int fds[2];
    if (pipe(fds) != 0) {
        return;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(fds[i], F_SETFD, FD_CLOEXEC);
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
    }
    mailbox->synced_data.read_fd = fds[0];
    mailbox->synced_data.write_fd = fds[1];
}

#else

static void
open_fds(struct ab_mailbox *mailbox)
{
    (void)mailbox; // no loop there can watch one
}

#endif

static void
fill_fd(struct ab_mailbox *mailbox) AB_REQUIRES(mailbox->mutex)
{
#ifndef _WIN32
    if (mailbox->synced_data.is_fd_full
        || mailbox->synced_data.write_fd < 0) {
        return;
    }
    uint64_t one = 1;
    // It cannot be full: it holds at most this one.  An interrupted write
    // is done again; nothing else can go wrong with it.
    while (write(mailbox->synced_data.write_fd, &one, sizeof one) < 0
           && errno == EINTR) {
    }
    mailbox->synced_data.is_fd_full = true;
#endif
}

static void
empty_fd(struct ab_mailbox *mailbox) AB_REQUIRES(mailbox->mutex)
{
#ifndef _WIN32
    if (!mailbox->synced_data.is_fd_full) {
        return;
    }
    uint64_t value;
    while (read(mailbox->synced_data.read_fd, &value, sizeof value) < 0
           && errno == EINTR) {
    }
    mailbox->synced_data.is_fd_full = false;
#endif
}

static void
close_fds(struct ab_mailbox *mailbox) AB_REQUIRES(mailbox->mutex)
{
#ifndef _WIN32
    if (mailbox->synced_data.read_fd >= 0) {
        close(mailbox->synced_data.read_fd);
    }
    if (mailbox->synced_data.write_fd != mailbox->synced_data.read_fd) {
        close(mailbox->synced_data.write_fd);
    }
#endif
    mailbox->synced_data.read_fd = mailbox->synced_data.write_fd = -1;
    mailbox->synced_data.is_fd_full = false;
}

/* ---- lifetime ---- */

static struct ab_mailbox *
of_timer(struct ab_timer *timer)
{
    return (struct ab_mailbox *)((char *)timer
                                 - offsetof(struct ab_mailbox, timer));
}

static void
acquire_by_timer(struct ab_timer *timer)
{
    ab_mailbox_acquire(of_timer(timer));
}

static void
release_by_timer(struct ab_timer *timer)
{
    ab_mailbox_release(of_timer(timer));
}

static void
ask_to_yield(struct ab_timer *timer)
{
    struct ab_mailbox *mailbox = of_timer(timer);
    if (atomic_load_explicit(&sync_batches, memory_order_relaxed) > 0) {
        ab_mutex_lock(&mailbox->mutex);
        if (!mailbox->synced_data.is_closed) {
            if (!mailbox->synced_data.is_yield_wanted) { // else: still busy
                mailbox->synced_data.yield_asked_ns = ab_clock_now_ns();
            }
            mailbox->synced_data.is_yield_wanted = true;
            fill_fd(mailbox);
        }
        ab_mutex_unlock(&mailbox->mutex);
    }
    ab_mailbox_release(mailbox);
}

static void
forget_letters(struct ab_mailbox *mailbox)
{
    mailbox->synced_data.letters = NULL;
    mailbox->synced_data.letters_end = &mailbox->synced_data.letters;
    mailbox->thread_data.letters = NULL;
    mailbox->thread_data.letters_end = &mailbox->thread_data.letters;
}

enum ab_status
ab_mailbox_new(struct ab_mailbox **out, bool wants_fd)
{
    struct ab_mailbox *mailbox = ab_allocate(sizeof *mailbox);
    if (mailbox == NULL) {
        return AB_NO_MEMORY;
    }
    if (ab_aggregator_reserve(false) != AB_OK) {
        ab_release(mailbox);
        return AB_NO_MEMORY;
    }
    ab_count_init(&mailbox->refs);
    ab_mutex_init(&mailbox->mutex);
    mailbox->timer = (struct ab_timer){.fire = ask_to_yield,
                                       .acquire = acquire_by_timer,
                                       .release = release_by_timer};
    forget_letters(mailbox);
    mailbox->synced_data.read_fd = mailbox->synced_data.write_fd = -1;
    if (wants_fd) {
        open_fds(mailbox);
    }
    mailbox->has_fd = mailbox->synced_data.write_fd >= 0;
    ab_registry_add_mailbox(mailbox);
    if (atomic_load_explicit(&sync_batches, memory_order_relaxed) > 0) {
        (void)ab_aggregator_arm(&mailbox->timer,
                                ab_clock_now_ns() + AB_YIELD_DELAY_NS);
    }
    *out = mailbox;
    return AB_OK;
}

void
ab_mailbox_acquire(struct ab_mailbox *mailbox)
{
    ab_count_acquire(&mailbox->refs);
}

void
ab_mailbox_release(struct ab_mailbox *mailbox)
{
    if (!ab_count_release(&mailbox->refs)) {
        return;
    }
    AB_ASSERT(mailbox->synced_data.is_closed);
    ab_mutex_fini(&mailbox->mutex);
    ab_release(mailbox);
}

struct ab_mailbox *
ab_mailbox_find(void *loop)
{
    ab_mutex_lock(&ab_registry.mutex);
    struct ab_mailbox *mailbox = ab_registry.synced_data.mailboxes;
    // Relaxed: the caller runs on `loop`, whose own thread wrote it.
    while (mailbox != NULL
           && atomic_load_explicit(&mailbox->loop, memory_order_relaxed)
                  != loop) {
        mailbox = mailbox->next;
    }
    if (mailbox != NULL) {
        ab_mailbox_acquire(mailbox);
    }
    ab_mutex_unlock(&ab_registry.mutex);
    return mailbox;
}

void
ab_mailbox_close(struct ab_mailbox *mailbox)
{
    ab_registry_remove_mailbox(mailbox);
    ab_mutex_lock(&mailbox->mutex);
    mailbox->synced_data.is_closed = true; // already, in the child of a fork
    close_fds(mailbox);
    ab_mutex_unlock(&mailbox->mutex);

    ab_mailbox_take(mailbox); // with the last that was posted
    struct ab_link *link;
    while ((link = ab_mailbox_next(mailbox)) != NULL) {
        ab_batcher_release(link->batcher);
    }
    // Only now may a batcher forget the links: none is a letter any more.
    atomic_store_explicit(&mailbox->loop, NULL, memory_order_release);
    ab_aggregator_disarm(&mailbox->timer);
    ab_aggregator_unreserve(false);
}

void
ab_mailbox_after_fork_child(struct ab_mailbox *mailbox)
{
    mailbox->synced_data.is_closed = true;
    atomic_store_explicit(&mailbox->loop, NULL, memory_order_relaxed);
    close_fds(mailbox);
    forget_letters(mailbox);
    mailbox->synced_data.kept = NULL;
    ab_mutex_unlock(&mailbox->mutex);
}

/* ---- letters ---- */

enum ab_posted
ab_mailbox_post(struct ab_mailbox *mailbox, struct ab_link *link, bool by_fd)
{
    enum ab_posted posted = AB_POSTED;
    ab_mutex_lock(&mailbox->mutex);
    if (mailbox->synced_data.is_closed) {
        posted = AB_POST_CLOSED;
    }
    else if (!link->mailbox_data.is_posted) {
        bool was_empty = mailbox->synced_data.letters == NULL;
        link->mailbox_data.is_posted = true;
        ab_batcher_acquire(link->batcher);
        link->mailbox_data.next_letter = NULL;
        *mailbox->synced_data.letters_end = link;
        mailbox->synced_data.letters_end = &link->mailbox_data.next_letter;
        if (was_empty && by_fd && mailbox->has_fd) {
            fill_fd(mailbox);
        }
        else if (was_empty) {
            posted = AB_POSTED_WAKE;
        }
    }
    ab_mutex_unlock(&mailbox->mutex);
    return posted;
}

void
ab_mailbox_write_fd(struct ab_mailbox *mailbox)
{
    ab_mutex_lock(&mailbox->mutex);
    fill_fd(mailbox);
    ab_mutex_unlock(&mailbox->mutex);
}

bool
ab_mailbox_take(struct ab_mailbox *mailbox)
{
    ab_mutex_lock(&mailbox->mutex);
    empty_fd(mailbox);
    if (mailbox->synced_data.letters != NULL) {
        *mailbox->thread_data.letters_end = mailbox->synced_data.letters;
        mailbox->thread_data.letters_end = mailbox->synced_data.letters_end;
        mailbox->synced_data.letters = NULL;
        mailbox->synced_data.letters_end = &mailbox->synced_data.letters;
    }
    bool wants_yield = mailbox->synced_data.is_yield_wanted;
    mailbox->synced_data.is_yield_wanted = false;
    ab_mutex_unlock(&mailbox->mutex);
    return wants_yield;
}

struct ab_link *
ab_mailbox_next(struct ab_mailbox *mailbox)
{
    struct ab_link *link = mailbox->thread_data.letters;
    if (link == NULL) {
        return NULL;
    }
    ab_mutex_lock(&mailbox->mutex);
    mailbox->thread_data.letters = link->mailbox_data.next_letter;
    if (mailbox->thread_data.letters == NULL) {
        mailbox->thread_data.letters_end = &mailbox->thread_data.letters;
    }
    link->mailbox_data.is_posted = false;
    ab_mutex_unlock(&mailbox->mutex);
    return link;
}

bool
ab_mailbox_has_next(const struct ab_mailbox *mailbox)
{
    return mailbox->thread_data.letters != NULL;
}

/* ---- links whose batcher is kept alive ---- */

void
ab_mailbox_keep(struct ab_mailbox *mailbox, struct ab_link *link)
{
    ab_mutex_lock(&mailbox->mutex);
    link->mailbox_data.next_kept = mailbox->synced_data.kept;
    link->mailbox_data.kept_slot = &mailbox->synced_data.kept;
    if (link->mailbox_data.next_kept != NULL) {
        link->mailbox_data.next_kept->mailbox_data.kept_slot =
            &link->mailbox_data.next_kept;
    }
    mailbox->synced_data.kept = link;
    ab_mutex_unlock(&mailbox->mutex);
}

static void
unlink_kept(struct ab_mailbox *mailbox, struct ab_link *link)
    AB_REQUIRES(mailbox->mutex)
{
    (void)mailbox;
    *link->mailbox_data.kept_slot = link->mailbox_data.next_kept;
    if (link->mailbox_data.next_kept != NULL) {
        link->mailbox_data.next_kept->mailbox_data.kept_slot =
            link->mailbox_data.kept_slot;
    }
    link->mailbox_data.kept_slot = NULL;
}

void
ab_mailbox_unkeep(struct ab_mailbox *mailbox, struct ab_link *link)
{
    ab_mutex_lock(&mailbox->mutex);
    if (link->mailbox_data.kept_slot != NULL) { // else popped: it closed
        unlink_kept(mailbox, link);
    }
    ab_mutex_unlock(&mailbox->mutex);
}

struct ab_link *
ab_mailbox_pop_kept(struct ab_mailbox *mailbox)
{
    ab_mutex_lock(&mailbox->mutex);
    struct ab_link *link = mailbox->synced_data.kept;
    if (link != NULL) {
        ab_batcher_acquire(link->batcher);
        unlink_kept(mailbox, link);
        link->mailbox_data.is_popped = true;
    }
    ab_mutex_unlock(&mailbox->mutex);
    return link;
}

void
ab_mailbox_pop(struct ab_mailbox *mailbox, struct ab_link *link)
{
    ab_mutex_lock(&mailbox->mutex);
    link->mailbox_data.is_popped = true;
    ab_mutex_unlock(&mailbox->mutex);
}

void
ab_mailbox_unpop(struct ab_mailbox *mailbox, struct ab_link *link)
{
    ab_mutex_lock(&mailbox->mutex);
    link->mailbox_data.is_popped = false;
    ab_mutex_unlock(&mailbox->mutex);
}

bool
ab_mailbox_names(struct ab_mailbox *mailbox, const struct ab_link *link)
{
    ab_mutex_lock(&mailbox->mutex);
    bool is_named =
        link->mailbox_data.is_popped || link->mailbox_data.is_posted;
    ab_mutex_unlock(&mailbox->mutex);
    return is_named;
}

/* ---- yielding ---- */

void
ab_yield_begin(void)
{
    // Relaxed: a mailbox that misses the change is asked by the next batch.
    if (atomic_fetch_add_explicit(&sync_batches, 1, memory_order_relaxed)
        != 0) {
        return;
    }
    int64_t due_ns = ab_clock_now_ns() + AB_YIELD_DELAY_NS;
    ab_mutex_lock(&ab_registry.mutex);
    for (struct ab_mailbox *mailbox = ab_registry.synced_data.mailboxes;
         mailbox != NULL; mailbox = mailbox->next) {
        ab_mutex_lock(&mailbox->mutex);
        int64_t peace_ns = mailbox->synced_data.yield_peace_ns;
        ab_mutex_unlock(&mailbox->mutex);
        // Without the thread nobody asks; the batch then has to wait its turn.
        (void)ab_aggregator_arm(&mailbox->timer,
                                peace_ns > due_ns ? peace_ns : due_ns);
    }
    ab_mutex_unlock(&ab_registry.mutex);
}

void
ab_yield_end(void)
{
    atomic_fetch_sub_explicit(&sync_batches, 1, memory_order_relaxed);
}

/* How long the loop is left in peace after a yield.  A loop that answers at
 * once is idle and is asked ever more rarely.  One that came back quickly was
 * away for nothing, and may spend a small share of its time so; one that lost
 * the lock for longer gets as long again for itself. */
static int64_t
peace_after(struct ab_mailbox *mailbox, int64_t answer_ns, int64_t away_ns)
{
    int64_t *pause_ns = &mailbox->synced_data.yield_pause_ns;
    if (answer_ns >= AB_YIELD_IDLE_NS) {
        *pause_ns = 0;
    }
    else if (*pause_ns < AB_YIELD_MAX_PAUSE_NS) {
        *pause_ns = *pause_ns == 0 ? AB_YIELD_SHORT_NS : *pause_ns * 2;
    }
    int64_t peace_ns =
        away_ns < AB_YIELD_SHORT_NS ? AB_YIELD_SHARE * away_ns : away_ns;
    return peace_ns > *pause_ns ? peace_ns : *pause_ns;
}

void
ab_mailbox_yielded(struct ab_mailbox *mailbox, int64_t away_ns)
{
    if (atomic_load_explicit(&sync_batches, memory_order_relaxed) == 0) {
        return;
    }
    int64_t now_ns = ab_clock_now_ns();
    ab_mutex_lock(&mailbox->mutex);
    int64_t answer_ns =
        now_ns - away_ns - mailbox->synced_data.yield_asked_ns;
    int64_t due_ns = now_ns + peace_after(mailbox, answer_ns, away_ns);
    mailbox->synced_data.yield_peace_ns = due_ns;
    ab_mutex_unlock(&mailbox->mutex);
    (void)ab_aggregator_arm(&mailbox->timer, due_ns);
}

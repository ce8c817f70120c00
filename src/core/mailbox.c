#include "core/mailbox.h"

#include "core/batcher.h"
#include "core/clock.h"
#include "core/registry.h"
#include "core/yield.h"

#define AB_WRITE_AGAIN_NS 1000000

/* ---- lifetime ---- */

struct ab_mailbox *
ab_mailbox_of_timer(struct ab_timer *timer)
{
    return (struct ab_mailbox *)((char *)timer -
                                 offsetof(struct ab_mailbox, timer));
}

static void
acquire_by_timer(struct ab_timer *timer)
{
    ab_mailbox_acquire(ab_mailbox_of_timer(timer));
}

static void
release_by_timer(struct ab_timer *timer)
{
    ab_mailbox_release(ab_mailbox_of_timer(timer));
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
    mailbox->timer = (struct ab_timer){.fire = ab_yield_ask,
                                       .acquire = acquire_by_timer,
                                       .release = release_by_timer};
    forget_letters(mailbox);
    ab_wakefd_init(&mailbox->synced_data.wakefd, wants_fd);
    mailbox->has_fd = mailbox->synced_data.wakefd.write_fd >= 0;
    ab_registry_add_mailbox(mailbox);
    ab_yield_join(mailbox);
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
    while (mailbox != NULL &&
           atomic_load_explicit(&mailbox->loop, memory_order_relaxed) !=
               loop) {
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
    ab_wakefd_close(&mailbox->synced_data.wakefd);
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
    ab_wakefd_close(&mailbox->synced_data.wakefd);
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
    else if (link->mailbox_data.is_posted) {
        posted = mailbox->synced_data.is_asleep ? AB_POSTED_WAKE : AB_POSTED;
    }
    else {
        bool was_empty = mailbox->synced_data.letters == NULL;
        link->mailbox_data.is_posted = true;
        ab_batcher_acquire(link->batcher);
        link->mailbox_data.next_letter = NULL;
        *mailbox->synced_data.letters_end = link;
        mailbox->synced_data.letters_end = &link->mailbox_data.next_letter;
        if (was_empty && by_fd && mailbox->has_fd) {
            ab_mailbox_write_fd_locked(mailbox);
        }
        else if (was_empty || mailbox->synced_data.is_asleep) {
            posted = AB_POSTED_WAKE;
        }
    }
    if (posted == AB_POSTED_WAKE) {
        mailbox->synced_data.is_asleep = false;
    }
    ab_mutex_unlock(&mailbox->mutex);
    return posted;
}

void
ab_mailbox_sleeps_on(struct ab_mailbox *mailbox)
{
    ab_mutex_lock(&mailbox->mutex);
    mailbox->synced_data.is_asleep = true;
    ab_mutex_unlock(&mailbox->mutex);
}

void
ab_mailbox_write_fd(struct ab_mailbox *mailbox)
{
    ab_mutex_lock(&mailbox->mutex);
    ab_mailbox_write_fd_locked(mailbox);
    ab_mutex_unlock(&mailbox->mutex);
}

void
ab_mailbox_write_fd_locked(struct ab_mailbox *mailbox)
{
    bool is_heard = ab_wakefd_fill(&mailbox->synced_data.wakefd);
    mailbox->synced_data.is_unheard = !is_heard;
    if (!is_heard) {
        (void)ab_aggregator_arm(&mailbox->timer,
                                ab_clock_now_ns() + AB_WRITE_AGAIN_NS);
    }
}

bool
ab_mailbox_take(struct ab_mailbox *mailbox)
{
    ab_mutex_lock(&mailbox->mutex);
    ab_wakefd_empty(&mailbox->synced_data.wakefd);
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
    AB_REQUIRES(mailbox -> mutex)
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

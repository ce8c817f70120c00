#include "core/registry.h"

#include "core/aggregator.h"
#include "core/batcher.h"
#include "core/crew.h"
#include "core/mailbox.h"
#include "core/yield.h"

struct ab_registry ab_registry = {
#ifdef _WIN32
    .mutex = {SRWLOCK_INIT},
#else
    .mutex = {PTHREAD_MUTEX_INITIALIZER},
#endif
};

#ifndef _WIN32

static void
before_fork(void) AB_UNCHECKED
{
    ab_mutex_lock(&ab_registry.mutex);
    for (struct ab_batcher *b = ab_registry.synced_data.batchers; b != NULL;
         b = b->next) {
        ab_mutex_lock(&b->mutex);
    }
    for (struct ab_mailbox *m = ab_registry.synced_data.mailboxes; m != NULL;
         m = m->next) {
        ab_mutex_lock(&m->mutex);
    }
    ab_aggregator_before_fork();
    ab_workers_before_fork();
}

static void
after_fork_parent(void) AB_UNCHECKED
{
    ab_workers_after_fork_parent();
    ab_aggregator_after_fork_parent();
    for (struct ab_mailbox *m = ab_registry.synced_data.mailboxes; m != NULL;
         m = m->next) {
        ab_mutex_unlock(&m->mutex);
    }
    for (struct ab_batcher *b = ab_registry.synced_data.batchers; b != NULL;
         b = b->next) {
        ab_mutex_unlock(&b->mutex);
    }
    ab_mutex_unlock(&ab_registry.mutex);
}

static void
after_fork_child(void) AB_UNCHECKED
{
    ab_workers_after_fork_child();
    ab_aggregator_after_fork_child();
    ab_yield_after_fork_child();
    for (struct ab_mailbox *m = ab_registry.synced_data.mailboxes; m != NULL;
         m = m->next) {
        ab_mailbox_after_fork_child(m);
    }
    for (struct ab_batcher *b = ab_registry.synced_data.batchers; b != NULL;
         b = b->next) {
        ab_batcher_after_fork_child(b);
    }
    ab_mutex_unlock(&ab_registry.mutex);
}

static void
handle_forks(void) AB_REQUIRES(ab_registry.mutex)
{
    if (!ab_registry.synced_data.handles_forks) {
        ab_registry.synced_data.handles_forks = true;
        pthread_atfork(before_fork, after_fork_parent, after_fork_child);
    }
}

#else

static void
handle_forks(void)
{
}

#endif

void
ab_registry_add_batcher(struct ab_batcher *batcher)
{
    ab_mutex_lock(&ab_registry.mutex);
    handle_forks();
    batcher->next = ab_registry.synced_data.batchers;
    batcher->slot = &ab_registry.synced_data.batchers;
    batcher->number = ++ab_registry.synced_data.batcher_number;
    if (batcher->next != NULL) {
        batcher->next->slot = &batcher->next;
    }
    ab_registry.synced_data.batchers = batcher;
    ab_mutex_unlock(&ab_registry.mutex);
}

void
ab_registry_remove_batcher(struct ab_batcher *batcher)
{
    ab_mutex_lock(&ab_registry.mutex);
    *batcher->slot = batcher->next;
    if (batcher->next != NULL) {
        batcher->next->slot = batcher->slot;
    }
    batcher->next = NULL;
    batcher->slot = NULL; // a walk that stands here finds its place anew
    ab_mutex_unlock(&ab_registry.mutex);
}

void
ab_registry_add_mailbox(struct ab_mailbox *mailbox)
{
    ab_mutex_lock(&ab_registry.mutex);
    handle_forks();
    mailbox->next = ab_registry.synced_data.mailboxes;
    mailbox->slot = &ab_registry.synced_data.mailboxes;
    if (mailbox->next != NULL) {
        mailbox->next->slot = &mailbox->next;
    }
    ab_registry.synced_data.mailboxes = mailbox;
    ab_mutex_unlock(&ab_registry.mutex);
}

void
ab_registry_remove_mailbox(struct ab_mailbox *mailbox)
{
    ab_mutex_lock(&ab_registry.mutex);
    *mailbox->slot = mailbox->next;
    if (mailbox->next != NULL) {
        mailbox->next->slot = mailbox->slot;
    }
    ab_mutex_unlock(&ab_registry.mutex);
}

struct ab_batcher *
ab_registry_next(struct ab_batcher *after)
{
    ab_mutex_lock(&ab_registry.mutex);
    struct ab_batcher *next = ab_registry.synced_data.batchers;
    if (after != NULL && after->slot != NULL) {
        next = after->next;
    }
    else if (after != NULL) { // it left; the list is ordered, youngest first
        while (next != NULL && next->number > after->number) {
            next = next->next;
        }
    }
    if (next != NULL) {
        ab_batcher_acquire(next);
    }
    ab_mutex_unlock(&ab_registry.mutex);
    if (after != NULL) {
        ab_batcher_release(after);
    }
    return next;
}

/* All batchers and mailboxes of the process, so that a fork can be survived:
 * before it every lock is taken, in order, and the child starts clean.
 *
 * Lock order: registry, batcher, mailbox, aggregator.  Never back.
 */
#ifndef AB_CORE_REGISTRY_H
#define AB_CORE_REGISTRY_H

#include "core/base.h"
#include "core/sync.h"

struct ab_batcher;
struct ab_mailbox;

extern struct ab_registry {
    struct ab_mutex mutex;
    struct {
        struct ab_batcher *batchers;
        struct ab_mailbox *mailboxes;
        uint64_t batcher_number; // of the youngest
        bool handles_forks;
    } synced_data;
} ab_registry;

/* Enter and leave the lists.  The first to enter registers the fork
 * handlers. */
void ab_registry_add_batcher(struct ab_batcher *batcher);
void ab_registry_remove_batcher(struct ab_batcher *batcher);
void ab_registry_add_mailbox(struct ab_mailbox *mailbox);
void ab_registry_remove_mailbox(struct ab_mailbox *mailbox);

/* The next batcher, acquired, in a walk that starts with NULL and releases
 * what it gives in.  One added meanwhile may be missed. */
struct ab_batcher *ab_registry_next(struct ab_batcher *after);

#endif

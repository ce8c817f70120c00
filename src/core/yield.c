#include "core/yield.h"

#include "core/clock.h"
#include "core/registry.h"

static atomic_size_t sync_batches; // running or waiting to run

#define AB_YIELD_DELAY_NS 2000000 // a batch shorter than this asks nobody
#define AB_YIELD_SHORT_NS 1000000 // away for less: nobody took the lock
#define AB_YIELD_IDLE_NS 200000   // answered within this: the loop idles
#define AB_YIELD_MAX_PAUSE_NS 64000000
#define AB_YIELD_SHARE 20 // a short yield costs the loop 1 in 20

void
ab_yield_ask(struct ab_timer *timer)
{
    struct ab_mailbox *mailbox = ab_mailbox_of_timer(timer);
    ab_mutex_lock(&mailbox->mutex);
    bool is_open = !mailbox->synced_data.is_closed;
    bool is_asked = is_open && atomic_load_explicit(&sync_batches,
                                                    memory_order_relaxed) > 0;
    if (is_asked) {
        if (!mailbox->synced_data.is_yield_wanted) { // else: still busy
            mailbox->synced_data.yield_asked_ns = ab_clock_now_ns();
        }
        mailbox->synced_data.is_yield_wanted = true;
    }
    if (is_asked || (is_open && mailbox->synced_data.is_unheard)) {
        ab_mailbox_write_fd_locked(mailbox);
    }
    ab_mutex_unlock(&mailbox->mutex);
    ab_mailbox_release(mailbox);
}

void
ab_yield_join(struct ab_mailbox *mailbox)
{
    if (atomic_load_explicit(&sync_batches, memory_order_relaxed) > 0) {
        (void)ab_aggregator_arm(&mailbox->timer,
                                ab_clock_now_ns() + AB_YIELD_DELAY_NS);
    }
}

void
ab_yield_begin(void)
{
    // Relaxed: a mailbox that misses the change is asked by the next batch.
    if (atomic_fetch_add_explicit(&sync_batches, 1, memory_order_relaxed) !=
        0) {
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
    // Not below 0: in the child of a fork a batch of the parent may end.
    size_t count = atomic_load_explicit(&sync_batches, memory_order_relaxed);
    while (count > 0 && !atomic_compare_exchange_weak_explicit(
                            &sync_batches, &count, count - 1,
                            memory_order_relaxed, memory_order_relaxed)) {
    }
}

void
ab_yield_after_fork_child(void)
{
    atomic_store_explicit(&sync_batches, 0, memory_order_relaxed);
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
ab_yield_answered(struct ab_mailbox *mailbox, int64_t away_ns)
{
    if (atomic_load_explicit(&sync_batches, memory_order_relaxed) == 0) {
        return;
    }
    int64_t now_ns = ab_clock_now_ns();
    ab_mutex_lock(&mailbox->mutex);
    int64_t answer_ns = now_ns - away_ns - mailbox->synced_data.yield_asked_ns;
    int64_t due_ns = now_ns + peace_after(mailbox, answer_ns, away_ns);
    mailbox->synced_data.yield_peace_ns = due_ns;
    ab_mutex_unlock(&mailbox->mutex);
    (void)ab_aggregator_arm(&mailbox->timer, due_ns);
}

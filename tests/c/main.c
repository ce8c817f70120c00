#include "harness.h"

extern const struct test base_tests[], sync_tests[], queue_tests[],
    policy_tests[], prefetch_tests[], meter_tests[], aggregator_tests[],
    mailbox_tests[], wakefd_tests[], registry_tests[], fork_tests[],
    batcher_tests[], hint_tests[], form_tests[], batch_tests[],
    backlog_tests[], worker_tests[], crew_tests[], model_tests[],
    memory_tests[], yield_tests[], thread_tests[];

int
main(int argc, char **argv)
{
    const struct suite suites[] = {
        {"base", base_tests},
        {"sync", sync_tests},
        {"queue", queue_tests},
        {"policy", policy_tests},
        {"prefetch", prefetch_tests},
        {"meter", meter_tests},
        {"aggregator", aggregator_tests},
        {"mailbox", mailbox_tests},
        {"wakefd", wakefd_tests},
        {"registry", registry_tests},
        {"fork", fork_tests},
        {"batcher", batcher_tests},
        {"hint", hint_tests},
        {"form", form_tests},
        {"batch", batch_tests},
        {"backlog", backlog_tests},
        {"worker", worker_tests},
        {"crew", crew_tests},
        {"model", model_tests},
        {"memory", memory_tests},
        {"yield", yield_tests},
        {"thread", thread_tests},
        {NULL, NULL},
    };
    return run_suites(suites, argc, argv);
}

/* All batchers of the process, walked. */
#include "core/registry.h"

#include "world.h"

static void
walk_meets_every_batcher_once(void)
{
    struct ab_batcher *batchers[3], *walker = NULL;
    for (int i = 0; i < 3; i++) {
        REQUIRE(ab_batcher_new(&batchers[i], NULL) == AB_OK);
    }
    int met[3] = {0};
    while ((walker = ab_registry_next(walker)) != NULL) {
        for (int i = 0; i < 3; i++) {
            met[i] += walker == batchers[i];
        }
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL(met[i], 1);
        CHECK_EQUAL(batchers[i]->refs.value, 1);
        ab_batcher_orphan(batchers[i]);
    }
    CHECK(ab_registry_next(NULL) == NULL);
}

static void
walk_survives_batchers_that_leave_meanwhile(void)
{
    struct ab_batcher *old, *middle, *young;
    REQUIRE(ab_batcher_new(&old, NULL) == AB_OK);
    REQUIRE(ab_batcher_new(&middle, NULL) == AB_OK);
    REQUIRE(ab_batcher_new(&young, NULL) == AB_OK);
    struct ab_batcher *walker = ab_registry_next(NULL);
    CHECK(walker == young || walker == old);
    bool is_forward = walker == young;
    ab_batcher_orphan(walker); // the walk alone holds it now
    ab_batcher_orphan(middle); // and this one is freed
    walker = ab_registry_next(walker);
    CHECK(walker == (is_forward ? old : young));
    while (walker != NULL) {
        walker = ab_registry_next(walker);
    }
    ab_batcher_orphan(is_forward ? old : young);
}

const struct test registry_tests[] = {
    TEST(walk_meets_every_batcher_once),
    TEST(walk_survives_batchers_that_leave_meanwhile),
    TESTS_END,
};

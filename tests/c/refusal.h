/* A system that has no thread to give, on demand. */
#ifndef AB_TESTS_REFUSAL_H
#define AB_TESTS_REFUSAL_H

#include <stdbool.h>
#include <stddef.h>

/* From now on, does pthread_create fail? */
void refuse_threads(bool is_refused);
size_t refused_threads(void); // how many so far

#endif

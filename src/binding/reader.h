/* The object by which a loop owns its mailbox; see reader.c. */
#ifndef AB_BINDING_READER_H
#define AB_BINDING_READER_H

#include "binding/state.h"

typedef struct {
    PyObject_HEAD struct ab_state
        *state;                 /* borrowed; the type keeps the module alive */
    struct ab_mailbox *mailbox; /* owned: one count; NULL once closed */
    PyObject *loop;             /* owned; it cannot go before we know */
    PyObject *weakrefs;
} Reader;

#define Reader_CAST(op) ((Reader *)(op))

/* loop.call_soon(callback), or call_soon_threadsafe, in a context that is
 * nobody's.  0 or -1. */
int ab_call_soon(struct ab_state *state, PyObject *loop, PyObject *method,
                 PyObject *callback);

#endif

/* Statuses of the core as exceptions of Python. */
#include "binding/state.h"

PyObject *
ab_exception_of(Batcher *self, enum ab_status status)
{
    struct ab_state *state = self->state;
    switch (status) {
    case AB_FULL:
        return PyObject_CallFunction(state->QueueFullException, "s",
                                     "the queue is full");
    case AB_CLOSED:
        return PyObject_CallFunction(state->BatcherStoppedError, "s",
                                     "the batcher is stopped");
    case AB_QUITTING:
        return PyObject_CallFunction(PyExc_RuntimeError, "s",
                                     "cannot process items: the interpreter "
                                     "is shutting down");
    case AB_NO_THREAD:
        return PyObject_CallFunction(PyExc_RuntimeError, "s",
                                     "cannot start a thread");
    default:
        AB_ASSERT(status == AB_NO_MEMORY);
        return PyObject_CallNoArgs(PyExc_MemoryError);
    }
}

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

/* A signal handler of Python may run inside any call of ours. */
static bool
raise_interrupt_again(void)
{
    if (!PyErr_Occurred() ||
        !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        return false;
    }
    PyErr_Clear();
    PyErr_SetInterrupt();
    return true;
}

void
ab_drop_error(void)
{
    if (!raise_interrupt_again()) {
        PyErr_Clear();
    }
}

void
ab_report_error(PyObject *where)
{
    if (!raise_interrupt_again()) {
        PyErr_WriteUnraisable(where);
    }
}

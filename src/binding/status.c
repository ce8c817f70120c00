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
    case AB_NO_HOST:
        return PyObject_CallFunction(PyExc_RuntimeError, "s",
                                     "an async process_batch needs an event "
                                     "loop: use the batcher from a running "
                                     "loop first");
    case AB_NO_THREAD:
        return PyObject_CallFunction(PyExc_RuntimeError, "s",
                                     "cannot start a thread");
    default:
        AB_ASSERT(status == AB_NO_MEMORY);
        return PyObject_CallNoArgs(PyExc_MemoryError);
    }
}

/* ---- what ends the program ---- */

static int
raise_again(void *error)
{
    PyErr_SetRaisedException(error); /* steals */
    return -1;
}

static bool
is_main_thread(void)
{
    PyObject *module = PyImport_ImportModule("threading"), *thread = NULL;
    PyObject *number = NULL;
    if (module != NULL) {
        thread = PyObject_CallMethod(module, "main_thread", NULL);
        Py_DECREF(module);
    }
    if (thread != NULL) {
        number = PyObject_GetAttrString(thread, "ident");
        Py_DECREF(thread);
    }
    bool is_main =
        number != NULL && PyLong_Check(number) &&
        PyLong_AsUnsignedLong(number) == PyThread_get_thread_ident();
    Py_XDECREF(number);
    PyErr_Clear();
    return is_main;
}

/* A signal handler of Python may run inside any call of ours, in the main
 * thread.  What it raises to end the program goes on there as soon as Python
 * runs again, as if the handler had been called a little later. */
static bool
put_off(void)
{
    if (!PyErr_Occurred() ||
        (!PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) &&
         !PyErr_ExceptionMatches(PyExc_SystemExit))) {
        return false;
    }
    PyObject *error = PyErr_GetRaisedException();
    if (is_main_thread() && Py_AddPendingCall(raise_again, error) == 0) {
        return true;
    }
    PyErr_SetRaisedException(error); // too many are put off already
    return false;
}

void
ab_drop_error(void)
{
    if (!put_off()) {
        PyErr_Clear();
    }
}

void
ab_report_error(PyObject *where)
{
    if (!put_off()) {
        PyErr_WriteUnraisable(where);
    }
}

/* What an item costs: by the call, the estimator, or a method of the item. */
#include "binding/state.h"

/* `source`: what an error says the cost is, or came from. */
static int
check_cost(PyObject *cost, PyObject *source, int64_t *out)
{
    PyObject *kind = NULL;
    if (!PyLong_Check(cost) || PyBool_Check(cost)) {
        kind = PyExc_TypeError;
    }
    else {
        long long value = PyLong_AsLongLong(cost);
        if (value >= 0) {
            *out = value;
            return 0;
        }
        PyErr_Clear(); // negative, or too large for the type
        kind = PyExc_ValueError;
    }
    PyObject *shown = PyObject_Repr(cost);
    if (shown == NULL) { // an int may have too many digits to be shown
        ab_drop_error();
        shown = PyUnicode_FromFormat("one of type %.200s that has no repr",
                                     Py_TYPE(cost)->tp_name);
    }
    if (shown != NULL) {
        PyErr_Format(kind,
                     "%U: a cost must be an int from 0 to 2**63-1, not %.200U",
                     source, shown);
        Py_DECREF(shown);
    }
    return -1;
}

/* The first method of `item` that is there to be asked: a new reference.
 * NULL without an exception: it has none. */
static PyObject *
find_estimate(Batcher *self, PyObject *item, PyObject **name)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self->estimates); i++) {
        *name = PyTuple_GET_ITEM(self->estimates, i);
        PyObject *estimate = NULL;
        if (PyObject_GetOptionalAttr(item, *name, &estimate) != 0) {
            return estimate;
        }
    }
    return NULL;
}

int
ab_cost_of(Batcher *self, PyObject *item, PyObject *given, int64_t *out)
{
    *out = self->default_cost;
    if (given != Py_None) {
        return check_cost(given, self->state->str_estimated_cost, out);
    }
    if (!atomic_load_explicit(&self->has_cost, memory_order_relaxed)) {
        return 0;
    }
    PyObject *source = self->cost_name, *cost = NULL;
    if (self->cost != NULL) {
        cost = PyObject_CallOneArg(self->cost, item);
    }
    else {
        PyObject *estimate = find_estimate(self, item, &source);
        if (estimate == NULL) {
            return PyErr_Occurred() ? -1 : 0;
        }
        cost = PyObject_CallNoArgs(estimate);
        Py_DECREF(estimate);
    }
    int status = cost != NULL ? check_cost(cost, source, out) : -1;
    Py_XDECREF(cost);
    return status;
}

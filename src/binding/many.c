/* Many items in one call: one lock, one future. */
#include "binding/state.h"

#include "core/intake.h"

/* Costs come from user code: all are asked before anything is queued. */
static struct ab_entry *
make_entries(Batcher *self, PyObject *items, PyObject *group)
{
    Py_ssize_t count = PyList_GET_SIZE(items);
    struct ab_entry *entries = PyMem_Calloc((size_t)count, sizeof *entries);
    if (entries == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (ab_cost_of(self, PyList_GET_ITEM(items, i), Py_None,
                       &entries[i].cost) < 0) {
            PyMem_Free(entries);
            return NULL;
        }
        entries[i].index = (uint32_t)i;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        entries[i].value = Py_NewRef(PyList_GET_ITEM(items, i));
        entries[i].waiter = Py_NewRef(group);
    }
    return entries;
}

static void
drop_entries(struct ab_entry *entries, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_DECREF((PyObject *)entries[i].value);
        Py_DECREF((PyObject *)entries[i].waiter);
    }
}

static PyObject *
process_list(Batcher *self, PyObject *loop, PyObject *items, bool returns)
{
    Py_ssize_t count = PyList_GET_SIZE(items);
    PyObject *group = ab_group_new(self->state, loop, (size_t)count, returns);
    if (group == NULL) {
        return NULL;
    }
    PyObject *future = Py_NewRef(ab_group_future(group));
    struct ab_entry *entries = NULL;
    if (count == 0) {
        PyObject *empty = PyList_New(0);
        if (empty == NULL) {
            Py_CLEAR(future);
            goto done;
        }
        ab_waiter_tell(self->state, future, 0, empty, AB_ANSWER_RESULT);
        Py_DECREF(empty);
        goto done;
    }
    entries = make_entries(self, items, group);
    int is_inside = entries != NULL ? ab_waits_for_itself(self, loop) : -1;
    if (is_inside != 0) {
        if (is_inside > 0) {
            ab_set_self_wait_error();
        }
        if (entries != NULL) {
            drop_entries(entries, count);
        }
        future = ab_fail_future(self, future);
        goto done;
    }
    enum ab_status status = ab_push(self, loop, entries, (size_t)count);
    if (status == AB_OK) {
        goto done;
    }
    drop_entries(entries, count);
    ab_batcher_count_rejected(self->core, (size_t)count);
    PyObject *error = ab_push_error(self, status);
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
    future = ab_fail_future(self, future);
done:
    PyMem_Free(entries);
    Py_DECREF(group);
    return future;
}

PyObject *
Batcher_process_many(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *names)
{
    Batcher *self = Batcher_CAST(op);
    Py_ssize_t named = names != NULL ? PyTuple_GET_SIZE(names) : 0;
    PyObject *items = nargs > 0 ? args[0] : NULL;
    int returns = 0;
    for (Py_ssize_t i = 0; i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (PyUnicode_CompareWithASCIIString(name, "return_exceptions") == 0) {
            returns = PyObject_IsTrue(args[nargs + i]);
        }
        else if (items == NULL &&
                 PyUnicode_CompareWithASCIIString(name, "items") == 0) {
            items = args[nargs + i];
        }
        else {
            PyErr_Format(PyExc_TypeError,
                         "process_many() got an unexpected keyword argument "
                         "%R",
                         name);
            return NULL;
        }
    }
    if (nargs > 1 || items == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "process_many() takes one iterable of items");
        return NULL;
    }
    if (returns < 0 || ab_inspect(self) < 0) {
        return NULL;
    }
    PyObject *loop = ab_callers_loop(self);
    if (loop == NULL) {
        return NULL;
    }
    PyObject *future = NULL;
    PyObject *list = PySequence_List(items);
    if (list != NULL && PyList_GET_SIZE(list) > (Py_ssize_t)UINT32_MAX) {
        PyErr_SetString(PyExc_ValueError,
                        "process_many() takes at most 2**32-1 items");
    }
    else if (list != NULL) {
        future = process_list(self, loop, list, returns);
    }
    Py_XDECREF(list);
    Py_DECREF(loop);
    return future;
}

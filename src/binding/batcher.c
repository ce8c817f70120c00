/* The type `_core.Batcher`: its life, and what the garbage collector sees.
 * How items get in is in intake.c, how batches run in dispatch.c.
 */
#include "binding/doc.h"
#include "binding/state.h"

#include "core/leave.h"

Batcher *
ab_object_of(struct ab_batcher *core)
{
    ab_mutex_lock(&core->mutex);
    // Pending work keeps it.  The weak reference may be cleared all the same:
    // the collector had found it, and a finalizer brought it back.
    PyObject *object = core->synced_data.pending_links > 0
                           ? Py_NewRef((PyObject *)core->object)
                           : NULL;
    PyObject *ref = object == NULL ? core->synced_data.object_ref : NULL;
    Py_XINCREF(ref);
    ab_mutex_unlock(&core->mutex);
    if (ref != NULL) {
        (void)PyWeakref_GetRef(ref, &object);
        Py_DECREF(ref);
    }
    return Batcher_CAST(object);
}

/* ---- life ---- */

static PyObject *
Batcher_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
            PyObject *Py_UNUSED(kwargs))
{
    // object.__new__ refuses abstract classes; given no arguments it has none
    // to complain about.
    PyObject *nothing = PyTuple_New(0);
    if (nothing == NULL) {
        return NULL;
    }
    PyObject *op = PyBaseObject_Type.tp_new(type, nothing, NULL);
    Py_DECREF(nothing);
    if (op == NULL) {
        return NULL;
    }
    Batcher *self = Batcher_CAST(op);
    PyObject *module = PyType_GetModuleByDef(type, &ab_module);
    self->state = module != NULL ? PyModule_GetState(module) : NULL;
    if (self->state == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    if (ab_batcher_new(&self->core, self) != AB_OK) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    PyObject *ref = PyWeakref_NewRef(op, NULL);
    self->context = PyContext_CopyCurrent();
    if (ref == NULL || self->context == NULL) {
        Py_XDECREF(ref);
        Py_DECREF(self);
        return NULL;
    }
    ab_mutex_lock(&self->core->mutex);
    self->core->synced_data.object_ref = ref;
    ab_mutex_unlock(&self->core->mutex);
    return op;
}

/* _setup(max_workers, executor, cost, cost_name, estimates, default_cost):
 * the constructor's last step but the limits. */
static PyObject *
Batcher_setup(PyObject *op, PyObject *args)
{
    Batcher *self = Batcher_CAST(op);
    PyObject *executor, *cost, *cost_name, *estimates;
    Py_ssize_t max_workers;
    long long default_cost;
    if (!PyArg_ParseTuple(args, "nOOUOL", &max_workers, &executor, &cost,
                          &cost_name, &estimates, &default_cost)) {
        return NULL;
    }
    if (self->is_initialized) {
        PyErr_Format(PyExc_TypeError, "%.200s.__init__() was called twice",
                     Py_TYPE(self)->tp_name);
        return NULL;
    }
    self->executor = executor != Py_None ? Py_NewRef(executor) : NULL;
    self->cost = cost != Py_None ? Py_NewRef(cost) : NULL;
    self->cost_name = Py_NewRef(cost_name);
    self->estimates = Py_NewRef(estimates);
    self->default_cost = default_cost;
    ab_mutex_lock(&self->core->mutex);
    self->core->synced_data.max_workers = (size_t)max_workers;
    ab_mutex_unlock(&self->core->mutex);
    self->is_initialized = true;
    Py_RETURN_NONE;
}

static int
visit_entry(const struct ab_entry *entry, visitproc visit, void *arg)
{
    Py_VISIT((PyObject *)entry->value);
    Py_VISIT((PyObject *)entry->waiter);
    return 0;
}

static int
visit_batches(const struct ab_batch_list *list, visitproc visit, void *arg)
{
    for (const struct ab_batch *batch = list->first; batch != NULL;
         batch = batch->next) {
        Py_VISIT((PyObject *)batch->task);
        for (size_t i = 0; i < batch->length; i++) {
            int stop = visit_entry(&batch->entries[i], visit, arg);
            if (stop != 0) {
                return stop;
            }
        }
    }
    return 0;
}

/* The mutex may be taken here: whoever holds it reaches no point where the
 * collector could run before it lets go, and detached threads, too, move
 * entries from one list to another. */
static int
visit_core_locked(struct ab_batcher *core, visitproc visit, void *arg)
{
    struct ab_cursor cursor = ab_queue_walk(&core->synced_data.queue, 0);
    const struct ab_entry *entry;
    while ((entry = ab_queue_next(&core->synced_data.queue, &cursor)) !=
           NULL) {
        int stop = visit_entry(entry, visit, arg);
        if (stop != 0) {
            return stop;
        }
    }
    const struct ab_batch_list *lists[] = {&core->synced_data.batches,
                                           &core->synced_data.backlog,
                                           &core->synced_data.watchers};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(lists); i++) {
        int stop = visit_batches(lists[i], visit, arg);
        if (stop != 0) {
            return stop;
        }
    }
    return 0;
}

static int
Batcher_traverse(PyObject *op, visitproc visit, void *arg)
{
    Batcher *self = Batcher_CAST(op);
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->executor);
    Py_VISIT(self->cost);
    Py_VISIT(self->estimates);
    Py_VISIT(self->context);
    Py_VISIT(self->limits);
    if (self->core == NULL) {
        return 0;
    }
    ab_mutex_lock(&self->core->mutex);
    int stop = visit_core_locked(self->core, visit, arg);
    ab_mutex_unlock(&self->core->mutex);
    return stop;
}

static void
drop_batch(struct ab_batch *batch)
{
    // Values and waiters out first: dropping one may run anything.
    for (size_t i = 0; i < batch->length; i++) {
        PyObject *value = batch->entries[i].value;
        PyObject *waiter = batch->entries[i].waiter;
        batch->entries[i].value = batch->entries[i].waiter = NULL;
        Py_XDECREF(value);
        Py_XDECREF(waiter);
    }
}

static void
drop_queue(struct ab_batcher *core)
{
    struct ab_queue *queue = &core->synced_data.queue;
    for (;;) {
        struct ab_entry entry = {0};
        ab_mutex_lock(&core->mutex);
        if (ab_queue_head(queue) != NULL) {
            entry = ab_queue_pop(queue);
        }
        ab_mutex_unlock(&core->mutex);
        if (entry.waiter == NULL) {
            return;
        }
        Py_XDECREF((PyObject *)entry.value);
        Py_DECREF((PyObject *)entry.waiter);
    }
}

/* Entries can be left only where the whole cycle around them is garbage:
 * loop, reader, batcher and waiters. */
static size_t
drop_entries(Batcher *self)
{
    size_t refs = ab_batcher_forget(self->core);
    drop_queue(self->core);
    struct ab_batch_list *lists[] = {&self->core->synced_data.batches,
                                     &self->core->synced_data.backlog,
                                     &self->core->synced_data.watchers};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(lists); i++) {
        struct ab_batch *next;
        for (struct ab_batch *batch = lists[i]->first; batch != NULL;
             batch = next) {
            // Held: what is dropped may end the batch's run, which lets go.
            batch->holders++;
            PyObject *task = batch->task;
            batch->task = NULL;
            drop_batch(batch);
            Py_XDECREF(task);
            next = batch->next;
            ab_batch_let_go(batch);
        }
    }
    return refs;
}

static int
Batcher_clear(PyObject *op)
{
    Batcher *self = Batcher_CAST(op);
    size_t refs = self->core != NULL ? drop_entries(self) : 0;
    Py_CLEAR(self->executor);
    Py_CLEAR(self->cost);
    Py_CLEAR(self->cost_name);
    Py_CLEAR(self->estimates);
    Py_CLEAR(self->context);
    Py_CLEAR(self->limits);
    // Pending work kept the object; the collector holds it during this call.
    for (; refs > 0; refs--) {
        Py_DECREF(op);
    }
    return 0;
}

static void
Batcher_dealloc(PyObject *op)
{
    Batcher *self = Batcher_CAST(op);
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)Batcher_clear(op);
    if (self->core != NULL) {
        ab_mutex_lock(&self->core->mutex);
        PyObject *ref = self->core->synced_data.object_ref;
        self->core->synced_data.object_ref = NULL;
        ab_mutex_unlock(&self->core->mutex);
        Py_XDECREF(ref);
        ab_batcher_orphan(self->core);
        self->core = NULL;
    }
    type->tp_free(op);
    Py_DECREF(type);
}

/* ---- the type ---- */

#define AB_FAST(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef batcher_methods[] = {
    {"process", AB_FAST(Batcher_process), METH_FASTCALL | METH_KEYWORDS,
     process_doc},
    {"process_many", AB_FAST(Batcher_process_many),
     METH_FASTCALL | METH_KEYWORDS, process_many_doc},
    {"process_threadsafe", AB_FAST(Batcher_process_threadsafe),
     METH_FASTCALL | METH_KEYWORDS, process_threadsafe_doc},
    {"flush", Batcher_flush, METH_NOARGS, flush_doc},
    {"_setup", Batcher_setup, METH_VARARGS, NULL},
    {"_set_limits", Batcher_set_limits, METH_VARARGS, NULL},
    {"_begin", Batcher_begin, METH_NOARGS, NULL},
    {"_reopen", Batcher_reopen, METH_NOARGS, NULL},
    {"_submit", AB_FAST(Batcher_submit), METH_FASTCALL, NULL},
    {"_cost_of", Batcher_cost_of, METH_VARARGS, NULL},
    {"_withdraw", Batcher_withdraw, METH_O, NULL},
    {"_watch", Batcher_watch, METH_O, NULL},
    {"_check", Batcher_check, METH_NOARGS, NULL},
    {"_sweep", Batcher_sweep, METH_NOARGS, NULL},
    {"_on_done", Batcher_on_done, METH_O, NULL},
    {"_look", Batcher_look, METH_NOARGS, NULL},
    {"_drain", Batcher_drain, METH_NOARGS, NULL},
    {"_abort", Batcher_abort, METH_NOARGS, NULL},
    {"_is_inside", Batcher_is_inside, METH_NOARGS, NULL},
    {"_is_worker", Batcher_is_worker, METH_NOARGS, NULL},
    {"_has_untold", Batcher_has_untold, METH_NOARGS, NULL},
    {"_snapshot", Batcher_snapshot, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef batcher_getset[] = {
    {"_limits", Batcher_get_limits, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot batcher_slots[] = {
    {Py_tp_new, Batcher_new},
    {Py_tp_methods, batcher_methods},
    {Py_tp_getset, batcher_getset},
    {Py_tp_traverse, Batcher_traverse},
    {Py_tp_clear, Batcher_clear},
    {Py_tp_dealloc, Batcher_dealloc},
    {0, NULL},
};

PyType_Spec ab_batcher_spec = {
    .name = "async_batcher._core.Batcher",
    .basicsize = sizeof(Batcher),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = batcher_slots,
};

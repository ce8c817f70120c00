/* The type `_core.Batcher`: its life, its limits, what it tells of itself.
 * How items get in is in intake.c, how batches run in dispatch.c.
 */
#include "binding/state.h"

#include "core/clock.h"
#include "core/registry.h"

Batcher *
ab_object_of(struct ab_batcher *core)
{
    ab_mutex_lock(&core->mutex);
    PyObject *ref = core->synced_data.object_ref;
    Py_XINCREF(ref);
    ab_mutex_unlock(&core->mutex);
    PyObject *object = NULL;
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
    self->core->synced_data.object_ref = ref;
    return op;
}

/* _setup(max_workers, executor, cost, has_cost): the constructor's last step;
 * the limits are set before it. */
static PyObject *
Batcher_setup(PyObject *op, PyObject *args)
{
    Batcher *self = Batcher_CAST(op);
    PyObject *executor, *cost;
    Py_ssize_t max_workers;
    int has_cost;
    if (!PyArg_ParseTuple(args, "nOOp", &max_workers, &executor, &cost,
                          &has_cost)) {
        return NULL;
    }
    if (self->is_initialized) {
        PyErr_Format(PyExc_TypeError, "%.200s.__init__() was called twice",
                     Py_TYPE(self)->tp_name);
        return NULL;
    }
    self->executor = executor != Py_None ? Py_NewRef(executor) : NULL;
    self->cost = cost != Py_None ? Py_NewRef(cost) : NULL;
    self->has_cost = has_cost;
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

/* No lock: only attached threads change these structures, never across a
 * point where the collector could run, and while it runs none of them does. */
static int
visit_core(struct ab_batcher *core, visitproc visit, void *arg)
{
    struct ab_cursor cursor = ab_queue_walk(&core->synced_data.queue, 0);
    const struct ab_entry *entry;
    while ((entry = ab_queue_next(&core->synced_data.queue, &cursor))
           != NULL) {
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
    Py_VISIT(self->context);
    return self->core != NULL ? visit_core(self->core, visit, arg) : 0;
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

/* Entries can be left only where the whole cycle around them is garbage:
 * loop, reader, batcher and waiters. */
static void
drop_entries(Batcher *self)
{
    struct ab_batch *batch;
    struct ab_todo todo = {0};
    if (ab_batch_collect(self->core, NULL,
                         AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG, &batch)
            == AB_OK
        && batch != NULL) {
        drop_batch(batch);
        ab_batch_settle(batch, false, NULL, &todo);
        ab_batch_let_go(batch);
    }
    struct ab_batch_list *lists[] = {&self->core->synced_data.batches,
                                     &self->core->synced_data.watchers};
    for (size_t i = 0; i < Py_ARRAY_LENGTH(lists); i++) {
        for (batch = lists[i]->first; batch != NULL; batch = batch->next) {
            PyObject *task = batch->task;
            batch->task = NULL;
            drop_batch(batch);
            Py_XDECREF(task);
        }
    }
}

static int
Batcher_clear(PyObject *op)
{
    Batcher *self = Batcher_CAST(op);
    if (self->core != NULL) {
        drop_entries(self);
    }
    Py_CLEAR(self->executor);
    Py_CLEAR(self->cost);
    Py_CLEAR(self->context);
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

/* ---- stopping, flushing, looking ---- */

typedef void (*ab_core_call)(struct ab_batcher *, struct ab_mailbox *,
                             struct ab_todo *);

static PyObject *
call_core(PyObject *op, ab_core_call call)
{
    Batcher *self = Batcher_CAST(op);
    PyObject *loop = ab_running_loop(self->state);
    struct ab_mailbox *own = loop != NULL ? ab_mailbox_find(loop) : NULL;
    struct ab_todo todo = {0};
    ab_sweep(self, loop, false);
    call(self->core, own, &todo);
    ab_finish_todo(self, loop, &todo);
    ab_deliver(self, loop);
    if (own != NULL) {
        ab_mailbox_release(own);
    }
    Py_XDECREF(loop);
    Py_RETURN_NONE;
}

static PyObject *
Batcher_flush(PyObject *op, PyObject *Py_UNUSED(unused))
{
    return ab_inspect(Batcher_CAST(op)) < 0
               ? NULL
               : call_core(op, ab_batcher_flush);
}

static PyObject *
Batcher_look(PyObject *op, PyObject *Py_UNUSED(unused))
{
    return call_core(op, ab_batcher_look);
}

static int
refuse_stopped(Batcher *self, unsigned what)
{
    PyObject *error = ab_exception_of(self, AB_CLOSED);
    if (error == NULL) {
        return -1;
    }
    PyObject *loop = ab_running_loop(self->state);
    int status = ab_refuse(self, NULL, what, error, loop);
    Py_XDECREF(loop);
    Py_DECREF(error);
    return status;
}

/* _drain(): take nothing new; who waits for space is refused. */
static PyObject *
Batcher_drain(PyObject *op, PyObject *Py_UNUSED(unused))
{
    if (ab_inspect(Batcher_CAST(op)) < 0) {
        return NULL;
    }
    PyObject *answer = call_core(op, ab_batcher_begin_drain);
    if (refuse_stopped(Batcher_CAST(op), AB_COLLECT_BACKLOG) < 0) {
        Py_CLEAR(answer);
    }
    return answer;
}

/* The tasks of running batches: a list, a new reference. */
static PyObject *
running_tasks(Batcher *self)
{
    PyObject *tasks = PyList_New(0);
    PyObject *task = NULL;
    uint64_t number = 0;
    do {
        Py_CLEAR(task);
        ab_mutex_lock(&self->core->mutex);
        struct ab_batch *batch = self->core->synced_data.batches.first;
        while (batch != NULL
               && (batch->number <= number || batch->task == NULL)) {
            batch = batch->next;
        }
        if (batch != NULL) {
            number = batch->number;
            task = Py_NewRef((PyObject *)batch->task);
        }
        ab_mutex_unlock(&self->core->mutex);
        if (task != NULL && tasks != NULL
            && PyList_Append(tasks, task) < 0) {
            Py_CLEAR(tasks);
        }
    } while (task != NULL);
    return tasks;
}

/* _abort() -> list of tasks to cancel: refuse all that is queued or runs. */
static PyObject *
Batcher_abort(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    PyObject *tasks = ab_inspect(self) == 0 ? running_tasks(self) : NULL;
    if (tasks == NULL) {
        return NULL;
    }
    ab_mutex_lock(&self->core->mutex);
    self->core->synced_data.is_closing = true;
    ab_mutex_unlock(&self->core->mutex);
    ab_abandon_workers(self);
    if (refuse_stopped(self, AB_COLLECT_QUEUE | AB_COLLECT_BACKLOG
                                 | AB_COLLECT_RUNNING)
        < 0) {
        Py_DECREF(tasks);
        return NULL;
    }
    ab_batcher_tell_watchers(self->core);
    Py_XDECREF(call_core(op, ab_batcher_begin_drain));
    return tasks;
}

/* _is_inside(): does this thread run a batch of this batcher right now? */
static PyObject *
Batcher_is_inside(PyObject *op, PyObject *Py_UNUSED(unused))
{
    struct ab_batcher *core = Batcher_CAST(op)->core;
    unsigned long thread = PyThread_get_thread_ident();
    ab_mutex_lock(&core->mutex);
    struct ab_batch *batch = core->synced_data.batches.first;
    while (batch != NULL
           && atomic_load_explicit(&batch->thread, memory_order_relaxed)
                  != thread) {
        batch = batch->next;
    }
    ab_mutex_unlock(&core->mutex);
    return PyBool_FromLong(batch != NULL);
}

/* _check(): a TypeError unless __init__ is done. */
static PyObject *
Batcher_check(PyObject *op, PyObject *Py_UNUSED(unused))
{
    if (ab_check(Batcher_CAST(op)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* _begin(): count as used from now on. */
static PyObject *
Batcher_begin(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    if (ab_inspect(self) < 0) {
        return NULL;
    }
    ab_mutex_lock(&self->core->mutex);
    ab_batcher_begin_locked(self->core, ab_clock_now_ns());
    ab_mutex_unlock(&self->core->mutex);
    Py_RETURN_NONE;
}

/* ---- limits ---- */

/* _set_limits(size, cost, queue size, queue cost, concurrency, window_ns):
 * checked by the caller; a limit of none is 2**63-1. */
static PyObject *
Batcher_set_limits(PyObject *op, PyObject *args)
{
    Batcher *self = Batcher_CAST(op);
    long long size, cost, queue_size, queue_cost, concurrency, window_ns;
    if (!PyArg_ParseTuple(args, "LLLLLL", &size, &cost, &queue_size,
                          &queue_cost, &concurrency, &window_ns)) {
        return NULL;
    }
    ab_mutex_lock(&self->core->mutex);
    self->core->synced_data.limits = (struct ab_limits){
        .max_batch_size = size,
        .max_batch_cost = cost,
        .max_queue_size = queue_size,
        .max_queue_cost = queue_cost,
        .concurrency = concurrency,
        .window_ns = window_ns,
    };
    ab_mutex_unlock(&self->core->mutex);
    return call_core(op, ab_batcher_look);
}

/* ---- statistics ---- */

static PyObject *
build_cost(const struct ab_cost *cost)
{
    PyObject *high = PyLong_FromUnsignedLongLong(cost->high);
    PyObject *low = PyLong_FromUnsignedLongLong(cost->low);
    PyObject *bits = PyLong_FromLong(64);
    PyObject *shifted = NULL, *sum = NULL;
    if (high != NULL && low != NULL && bits != NULL) {
        shifted = PyNumber_Lshift(high, bits);
    }
    if (shifted != NULL) {
        sum = PyNumber_Or(shifted, low);
    }
    Py_XDECREF(shifted);
    Py_XDECREF(bits);
    Py_XDECREF(low);
    Py_XDECREF(high);
    return sum;
}

static PyObject *
build_histogram(const struct ab_histogram *histogram)
{
    PyObject *counts = PyTuple_New(AB_HISTOGRAM_BUCKETS);
    for (Py_ssize_t i = 0; counts != NULL && i < AB_HISTOGRAM_BUCKETS; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(histogram->buckets[i]);
        if (count == NULL) {
            Py_CLEAR(counts);
            break;
        }
        PyTuple_SET_ITEM(counts, i, count);
    }
    if (counts == NULL) {
        return NULL;
    }
    return Py_BuildValue("KdN", (unsigned long long)histogram->count,
                         (double)histogram->sum_ns / 1e9, counts);
}

static PyObject *
build_reasons(const struct ab_meter *meter)
{
    PyObject *reasons = PyDict_New();
    for (size_t i = 0; reasons != NULL && i < AB_REASONS; i++) {
        PyObject *count = PyLong_FromUnsignedLongLong(meter->reasons[i]);
        if (count == NULL
            || PyDict_SetItemString(reasons, ab_reason_names[i], count) < 0) {
            Py_CLEAR(reasons);
        }
        Py_XDECREF(count);
    }
    return reasons;
}

/* _snapshot() -> dict of what the batcher counted, cancelled entries noticed
 * before. */
static PyObject *
Batcher_snapshot(PyObject *op, PyObject *Py_UNUSED(unused))
{
    Batcher *self = Batcher_CAST(op);
    PyObject *loop = ab_running_loop(self->state);
    ab_sweep(self, loop, false);
    Py_XDECREF(loop);
    struct ab_batcher *core = self->core;
    ab_mutex_lock(&core->mutex);
    struct ab_meter meter =
        ab_meter_read(&core->synced_data.meter, ab_clock_now_ns());
    Py_ssize_t queued = (Py_ssize_t)core->synced_data.queue.length;
    Py_ssize_t running = (Py_ssize_t)core->synced_data.running;
    ab_mutex_unlock(&core->mutex);
    return Py_BuildValue(
        "{sKsKsKsKsKsKsKsnsnsNsNsNsdsdsNsO}", "submitted",
        (unsigned long long)meter.submitted, "completed",
        (unsigned long long)meter.completed, "failed",
        (unsigned long long)meter.failed, "cancelled",
        (unsigned long long)meter.cancelled, "rejected",
        (unsigned long long)meter.rejected, "batches",
        (unsigned long long)meter.batches, "batched_items",
        (unsigned long long)meter.batched_items, "queued", queued, "running",
        running, "total_cost", build_cost(&meter.total_cost), "queue_wait",
        build_histogram(&meter.queue_wait), "batch_time",
        build_histogram(&meter.batch_time), "busy_s",
        (double)meter.busy_ns / 1e9, "idle_s", (double)meter.idle_ns / 1e9,
        "reasons", build_reasons(&meter), "is_used",
        meter.since_ns != 0 ? Py_True : Py_False);
}

/* ---- the type ---- */

PyDoc_STRVAR(process_doc,
             "process($self, item)\n--\n\n"
             "Queue one item and return the asyncio.Future of its result.");
PyDoc_STRVAR(process_many_doc,
             "process_many($self, items, *, return_exceptions=False)\n--\n\n"
             "Queue many items and return one asyncio.Future of the list of "
             "their results.");
PyDoc_STRVAR(process_threadsafe_doc,
             "process_threadsafe($self, item)\n--\n\n"
             "Queue one item from any thread and return the "
             "concurrent.futures.Future of its result.");
PyDoc_STRVAR(flush_doc, "flush($self)\n--\n\n"
                        "Dispatch what is queued now, without waiting for "
                        "windows.");

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
    {"_submit", Batcher_submit, METH_O, NULL},
    {"_withdraw", Batcher_withdraw, METH_O, NULL},
    {"_watch", Batcher_watch, METH_NOARGS, NULL},
    {"_check", Batcher_check, METH_NOARGS, NULL},
    {"_sweep", Batcher_sweep, METH_NOARGS, NULL},
    {"_on_done", Batcher_on_done, METH_O, NULL},
    {"_look", Batcher_look, METH_NOARGS, NULL},
    {"_drain", Batcher_drain, METH_NOARGS, NULL},
    {"_abort", Batcher_abort, METH_NOARGS, NULL},
    {"_is_inside", Batcher_is_inside, METH_NOARGS, NULL},
    {"_snapshot", Batcher_snapshot, METH_NOARGS, NULL},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot batcher_slots[] = {
    {Py_tp_new, Batcher_new},           {Py_tp_methods, batcher_methods},
    {Py_tp_traverse, Batcher_traverse}, {Py_tp_clear, Batcher_clear},
    {Py_tp_dealloc, Batcher_dealloc},   {0, NULL},
};

PyType_Spec ab_batcher_spec = {
    .name = "async_batcher._core.Batcher",
    .basicsize = sizeof(Batcher),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = batcher_slots,
};

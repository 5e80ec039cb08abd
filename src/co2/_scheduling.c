/* What the system's scheduler is told of a thread; see `scheduling.py`. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#ifdef __linux__
#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* As in the kernel's sched/types.h; C libraries have it only of late. */
typedef struct {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
} Attributes;

static int set_slice(unsigned long long nanoseconds)
{
    if (sched_getscheduler(0) != SCHED_OTHER)
        return 0; /* somebody has decided otherwise */
    Attributes attributes = {.size = sizeof attributes, .policy = SCHED_OTHER, .runtime = nanoseconds};
    attributes.nice = getpriority(PRIO_PROCESS, 0); /* of this thread */
    return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}
#else
static int set_slice(unsigned long long nanoseconds)
{
    (void)nanoseconds;
    return 0;
}
#endif

static PyObject *set_slice_(PyObject *Py_UNUSED(module), PyObject *argument)
{
    unsigned long long nanoseconds = PyLong_AsUnsignedLongLong(argument);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(set_slice(nanoseconds));
}

static PyMethodDef functions[] = {
    {"set_slice", set_slice_, METH_O, PyDoc_STR("Say how long this thread wants to run at a time; 0 for as others.")},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "co2._scheduling",
    .m_doc = PyDoc_STR("What the system's scheduler is told of a thread; see scheduling.py."),
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__scheduling(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module && PyModule_AddIntMacro(module, SOURCE) < 0)
        Py_CLEAR(module);
    return module;
}

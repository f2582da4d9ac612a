# A client in Python, over libteec: one command of the test TA (test/ta). docs/guest.md says how to run it.
import ctypes

TA = (0x346E01A1, 0x3D71, 0x4FEB, (0x89, 0x4B, 0xAE, 0x25, 0x2D, 0x06, 0x4B, 0xDE))
VALUES = 1  # adds 1 to a and 2 to b
LOGIN_PUBLIC = 0
VALUE_INOUT = 3


class Uuid(ctypes.Structure):
    _fields_ = [
        ("time_low", ctypes.c_uint32),
        ("time_mid", ctypes.c_uint16),
        ("time_high", ctypes.c_uint16),
        ("clock_and_node", ctypes.c_uint8 * 8),
    ]


class Value(ctypes.Structure):
    _fields_ = [("a", ctypes.c_uint32), ("b", ctypes.c_uint32)]


class Memory(ctypes.Structure):
    _fields_ = [("parent", ctypes.c_void_p), ("size", ctypes.c_size_t), ("offset", ctypes.c_size_t)]


class Parameter(ctypes.Union):
    _fields_ = [("value", Value), ("memory", Memory)]


class Operation(ctypes.Structure):
    _fields_ = [
        ("started", ctypes.c_uint32),
        ("types", ctypes.c_uint32),
        ("params", Parameter * 4),
        ("session", ctypes.c_void_p),
    ]


def check(function, result):
    if result != 0:
        raise OSError(f"{function}: {result & 0xFFFFFFFF:#x}")


teec = ctypes.CDLL("libteec.so.2")
# More than libteec's own structures have.
context, session = (ctypes.create_string_buffer(256) for _ in range(2))
origin = ctypes.c_uint32()
uuid = Uuid(*TA[:3], (ctypes.c_uint8 * 8)(*TA[3]))

check("TEEC_InitializeContext", teec.TEEC_InitializeContext(None, context))
check(
    "TEEC_OpenSession",
    teec.TEEC_OpenSession(context, session, ctypes.byref(uuid), LOGIN_PUBLIC, None, None, ctypes.byref(origin)),
)
operation = Operation(types=VALUE_INOUT)
operation.params[0].value = Value(41, 0)
check(
    "TEEC_InvokeCommand",
    teec.TEEC_InvokeCommand(session, VALUES, ctypes.byref(operation), ctypes.byref(origin)),
)
print(operation.params[0].value.a, operation.params[0].value.b)
teec.TEEC_CloseSession(session)
teec.TEEC_FinalizeContext(context)

"""Upstream's exceptions: the code stands in the message."""


class _Coded(Exception):
    code = ""
    title = ""

    def __init__(self, message: str) -> None:
        self.message = f"[{self.code}] {self.title}. {message}"
        super().__init__(self.message)

    def __reduce__(self):
        return _restored, (type(self), self.message)


def _restored(cls: type, message: str) -> _Coded:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.message = message
    return error


class ParametersInvalid(_Coded):
    code, title = "MIE06E000001", "Parameters invalid"


class ConfigError(_Coded):
    code, title = "MIE06E000002", "Config parameter err"


class TorchError(_Coded):
    code, title = "MIE06E000003", "Torch exec err"


class ModelInitError(_Coded):
    code, title = "MIE06E000004", "Model init err"


class ModelExecError(_Coded):
    code, title = "MIE06E000005", "Model exec err"

"""Faults that the user can mend: shown as one message, without a traceback."""


class UserError(Exception):
    """Something given is wrong; the message says what was given, what is allowed and what to do."""


class SettingError(UserError, ValueError):
    """A setting that does not exist, is out of range or does not fit another one."""


class MissingExtraError(UserError, ImportError):
    """A setting asks for an optional package that is not installed."""


class NonFiniteError(UserError, FloatingPointError):
    """A gradient has a NaN or an infinite entry, or would overflow what it is added to; nothing was changed."""


class RankError(UserError, RuntimeError):
    """A process of a group has ended, hangs, failed or computed something else; the message names rank and step."""


class LostRankError(RankError):
    """A roll call has found which process is missing; all that can still end then raise this."""

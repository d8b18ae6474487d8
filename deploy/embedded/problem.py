"""What stops a start: said in one sentence, with what to do about it."""


class Problem(Exception):
    """The platform cannot start or go on. `message` says what is wrong, `todo` what helps."""

    def __init__(self, message: str, todo: str) -> None:
        super().__init__(f"{message}\n  {todo}")
        self.message = message
        self.todo = todo

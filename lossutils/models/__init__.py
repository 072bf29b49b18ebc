"""Models small enough to fit inside a chapter, behind one interface: token ids in, next-token predictions out.

There are three: `NGramModel` counts, `WindowModel` is a network over the last few tokens, `GPT` attends to all that is
in its context. Each is a `LanguageModel`: it predicts the token after a prefix, and tells the nats of each token of a
text. `generate` samples from any of them.
"""

from ._generate import Reader, generate
from ._interface import LanguageModel
from .gpt import GPT
from .ngram import NGramModel
from .window import WindowModel

__all__ = ["GPT", "LanguageModel", "NGramModel", "Reader", "WindowModel", "generate"]

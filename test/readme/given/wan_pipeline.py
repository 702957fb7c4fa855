import sys

sys.path.insert(0, "examples/diffusers")
import calibatt
import tiny_wan


class Pipe(tiny_wan.TinyWanPipeline):
    """Takes the sizes of a large model, and makes the tiny one's videos."""

    def __call__(self, prompt, **large):
        return super().__call__(prompt, **tiny_wan.CALL)


pipe = tiny_wan.tiny_wan_pipeline()
pipe.__class__ = Pipe
prompts = ["a cat on a roof", "waves at night"]

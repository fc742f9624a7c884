"""Hugging Face integration: `import deltaprune.hf` registers the type "deltaprune" with transformers' Auto classes.

    import deltaprune.hf
    from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

    model = AutoModelForImageTextToText.from_pretrained(folder)
    with dp.DTP(keep=0.5)(model):
        ids = model.generate(**AutoProcessor.from_pretrained(folder)(images=image, text=question, return_tensors="pt"))
    answers = pipeline("image-text-to-text", model=folder)(images=image, text=question, max_new_tokens=16)

Both libraries use the same model folders: `dp.load(folder)` reads what `save_pretrained` wrote, and the reverse.
Pruning is not implemented here; everything is passed to a `VLM`.
"""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoProcessor
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from deltaprune.hf.cache import StateCache as StateCache
from deltaprune.hf.config import DeltapruneConfig as DeltapruneConfig
from deltaprune.hf.model import DeltapruneForConditionalGeneration as DeltapruneForConditionalGeneration
from deltaprune.hf.processor import DeltapruneProcessor as DeltapruneProcessor

AutoConfig.register(DeltapruneConfig.model_type, DeltapruneConfig, exist_ok=True)
AutoProcessor.register(DeltapruneConfig, DeltapruneProcessor, exist_ok=True)
AutoModelForImageTextToText.register(DeltapruneConfig, DeltapruneForConditionalGeneration, exist_ok=True)
AutoModelForMultimodalLM.register(DeltapruneConfig, DeltapruneForConditionalGeneration, exist_ok=True)
# The pipeline looks a registered class up among these names only, and else logs that it "is not supported".
MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[DeltapruneConfig.model_type] = DeltapruneForConditionalGeneration.__name__

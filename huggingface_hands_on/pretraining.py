"""Training a language model on raw texts: corpora -> blocks -> masks -> the trainer of main.py.

    pretrain(*parse(argv))          # parse: of continue_pretrain_task.py, or of pretrain_from_scratch.py

What continue_pretrain_task.py and pretrain_from_scratch.py share. The result, best/ and last/ of the output folder, are
standard folders: AutoModel.from_pretrained and main.py --model_name_or_path take them.
"""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import main
from config import check_resume, seed_everything

from .pretraining_arguments import SETTLED

logger = logging.getLogger(__name__)
# Folder of a saved state, or None -> tokenizer, language model of transformers, whether it is causal.
Load = Callable[[Path | None], tuple[Any, Any, bool]]


def pretrain(args: Any, load: Load) -> None:
    """Train, or say what training would be (--dry_run); see pretraining_arguments.py for `args`."""
    from trainer.lock import owned
    from trainer.run_folder import find_state

    with ExitStack() as output:
        job = main.start_job(args)
        corpora = find_corpora(args)
        if job.rank == 0 and not args.dry_run:
            output.enter_context(owned(args.output_dir))
        job.folder = find_state(args.output_dir, args.resume)
        job.resumes = job.folder is not None
        model, blocks, options = prepare(job, load, corpora)
        if args.dry_run:
            from .dry_run import forecast

            print(forecast(job, model, blocks, options))
            return
        info = {part: {name: own.info for name, own in blocks[part].items()} for part in blocks}
        main.train(job, model, options, lambda: {"dataset_info.json": info})


def prepare(
    job: main.Job, load: Load, corpora: Sequence[tuple[str, Any]]
) -> tuple[Any, dict[str, dict[str, Any]], dict[str, Any]]:
    """The model, part -> name of a corpus -> Blocks, and the Trainer's options; job knows the tokenizer then."""
    from trainer import distributed
    from trainer.checkpoint import read_json

    from .mask_report import describe

    model = load_model(job, load)
    with distributed.local_rank_0_first():
        blocks = build_corpora(job, corpora)
    job.given |= {f"{part}_data": [own.key for own in blocks[part].values()] for part in blocks}
    if job.folder:
        saved = read_json(job.folder / "trainer_state.json")["arguments"]
        for change in check_resume(saved, job.given, job.folder, SETTLED):
            logger.warning("going on with another value: %s", change)
    collate = build_collator(job, model)
    datasets = build_datasets(blocks)
    if not job.causal:
        for line in describe(collate, datasets["train"], job.tokenizer.mask_token_id):
            logger.info(line)
    return model, blocks, build_training(job, model, collate, datasets)


def load_model(job: main.Job, load: Load) -> Any:
    """The model that the trainer knows; job knows the tokenizer then.

    Raises ModelError where it has too few positions, or mixes packed texts.
    """
    from model_utils.encoder import position_limit
    from model_utils.model_error import ModelError
    from model_utils.pieces import Isolation
    from model_utils.pretraining_build import check_tokenizer
    from model_utils.pretraining_model import PretrainingModel

    args = job.args
    seed_everything(args.seed)
    job.tokenizer, language_model, job.causal = load(job.folder)
    check_tokenizer(job.tokenizer, job.causal)
    kind = language_model.config.model_type
    if (limit := position_limit(language_model)) < args.block_length:
        raise ModelError(f"block_length: this {kind} has {limit} positions; {args.block_length} must not be above that")
    if len(job.tokenizer) > language_model.get_input_embeddings().num_embeddings:
        language_model.resize_token_embeddings(len(job.tokenizer), mean_resizing=False)
    base = language_model.base_model
    if args.attention == "document" and not Isolation(base, job.causal).works(base, args.block_length):
        raise ModelError(f"attention: {kind} cannot keep packed texts apart; give --attention block")
    return PretrainingModel(language_model, job.causal)


def find_corpora(args: Any) -> list[tuple[str, Any]]:
    """(part, Corpus); the held-out ones first, so that training leaves out what is in them. Raises DataError."""
    from data_process.blocks import Corpus
    from data_process.corpus import find_files

    ratio, found = args.eval_ratio, []
    held_out = [entry | {"name": f"{entry['name']}_held_out"} for entry in args.corpus if ratio]
    for part, entries, texts in (
        ("eval", args.eval_corpus, (0.0, 1.0)),
        ("eval", held_out, (0.0, ratio)),
        ("train", args.corpus, (ratio, 1.0)),
    ):
        for entry in entries:
            columns = [entry[name] for name in ("text_column", "text_pair_column") if entry[name]]
            found.append((part, Corpus(entry["name"], find_files(entry["files"]), columns, texts)))
    return found


def build_corpora(job: main.Job, corpora: Sequence[tuple[str, Any]]) -> dict[str, dict[str, Any]]:
    """part -> name of a corpus -> Blocks."""
    from data_process.blocks import Filter, build_blocks
    from data_process.packing import BlockEncoder

    args = job.args
    segment, settings = choose_segmenter(args, [corpus for _, corpus in corpora])
    encode = BlockEncoder(job.tokenizer, args.block_length, segment=segment, causal=job.causal,
                          crossing=args.packing == "crossing")  # fmt: skip
    texts = Filter(args.clean, args.min_chars, args.deduplicate)
    found = build_blocks([corpus for _, corpus in corpora], encode, args.cache_dir, texts, settings, args.num_workers)
    parts: dict[str, dict[str, Any]] = {"eval": {}, "train": {}}
    for (part, corpus), blocks in zip(corpora, found, strict=True):
        parts[part][corpus.name] = blocks
    return parts


def choose_segmenter(args: Any, corpora: Sequence[Any]) -> tuple[Any, str]:
    """The segmenter, and what decides it."""
    from itertools import islice

    from data_process.corpus import read_columns
    from data_process.feature_cache import content_hash
    from data_process.word_segments import load_segmenter, unspaced_share

    name = args.segmenter
    if args.masking == "token" or name == "none":
        name = ""
    elif name == "auto":
        firsts = (islice(read_columns(corpus.files, corpus.columns), 200) for corpus in corpora)
        texts = ["".join(columns) for first in firsts for _, columns in first]
        name = "jieba" if unspaced_share(texts) > 0.1 else ""
    lexicon = args.lexicon if args.masking != "token" else None
    return load_segmenter(name, lexicon), f"{name} {content_hash(lexicon) if lexicon else ''}"


def build_datasets(blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """part -> BlockDataset; no "eval" where nothing is held out."""
    from data_loader.block_batches import BlockDataset

    arrays = {part: [(own.ids, own.flags) for own in some.values()] for part, some in blocks.items()}
    return {part: BlockDataset(corpora) for part, corpora in arrays.items() if corpora}


def build_training(job: main.Job, model: Any, collate: Any, datasets: Mapping[str, Any]) -> dict[str, Any]:
    """The Trainer's options."""
    from data_loader.block_batches import block_eval_loader, block_loader

    args, size = job.args, len(datasets["train"])
    own = {"rank": job.rank, "world_size": job.world_size, "num_workers": args.num_workers,
           "pin_memory": job.device.type == "cuda"}  # fmt: skip
    total = min(args.epochs * size or sys.maxsize,
                args.max_steps * args.accumulate * args.batch_size * job.world_size or sys.maxsize)  # fmt: skip
    loader = block_loader(datasets["train"], collate, batch_size=args.batch_size, seed=args.seed, total=total,
                          order=build_order(job, datasets["train"]), **own)  # fmt: skip
    evaluation = None
    if "eval" in datasets:
        evaluation = (block_eval_loader(datasets["eval"], collate, batch_size=args.eval_batch_size, **own),
                      partial(gold, datasets["eval"], collate))  # fmt: skip
        job.monitor = (f"{model.task}/perplexity", True)
    return main.training_options(job, model, loader, evaluation, partial(save, model, main.tokenizer_files(job)))


def build_order(job: main.Job, dataset: Any) -> Any:
    """Every block once in an epoch, or corpora mixed by weight."""
    import numpy as np

    from data_loader.class_balance import BalancedOrder
    from data_loader.order import shuffled

    weights = [entry["weight"] for entry in job.args.corpus]
    if not any(weights):
        return shuffled
    corpora = np.searchsorted(dataset.ends, np.arange(len(dataset)), side="right")
    return BalancedOrder(corpora, shares=weights)


def build_collator(job: main.Job, model: Any) -> Any:
    import numpy as np

    from data_loader.block_batches import CausalCollator, MaskedCollator
    from data_loader.masking import Masking

    args, tokenizer = job.args, job.tokenizer
    isolated = args.attention == "document"
    if job.causal:
        return CausalCollator(isolated)
    random_ids = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    unit = {"token": "token", "ngram": "ngram"}.get(args.masking, "word")
    return MaskedCollator(Masking(tokenizer.mask_token_id, random_ids, args.mask_rate, args.seed), unit,
                          last_rate=args.mask_rate_end, span=args.ngram_words, isolated=isolated,
                          token_types="token_type_ids" in model.inputs)  # fmt: skip


def gold(dataset: Any, collate: Any, sample_ids: Sequence[int]) -> dict[str, list[list[int]]]:
    """task -> what stood at the masked places of each block, or followed."""
    import numpy as np

    from data_loader.block_batches import Turn

    found: dict[str, list[list[int]]] = {}
    for first in range(0, len(sample_ids), 1024):
        turn = Turn(np.array(sample_ids[first : first + 1024]), epoch=0, progress=0.0)
        for task, labels in collate(dataset.__getitems__(turn))["labels"].items():
            found.setdefault(task, []).extend(row[row != -100].tolist() for row in labels)
    return found


def save(model: Any, tokenizer: Mapping[str, bytes], folder: Path, weights: Mapping[str, Any]) -> None:
    """A standard folder of transformers."""
    from model_utils.multitask_model import encoder_weights

    model.encoder.save_pretrained(folder, state_dict=encoder_weights(weights))
    main.write_files(folder, tokenizer)

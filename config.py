"""The arguments of main.py: typed dataclasses, filled from YAML and command line, checked before anything is loaded.

    args = get_args(["--config", "configs/sample_joint.yaml", "--lr", "3e-4"])

The command line wins over the file. Every mistake becomes one `ConfigError` that says where, what, and what would be
right. Only the standard library, PyYAML and jsonargparse are imported here, so `--help` answers at once.
"""

import dataclasses
import difflib
import os
import random
import re
import sys
from argparse import ArgumentError
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal, get_origin
from typing import get_args as get_typing_args

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

set_parsing_settings(docstring_parse_attribute_docstrings=True)

STREAMABLE = (".jsonl", ".ndjson", ".txt")
# What a saved state has in itself: with other values it would be another run, or they would be ignored.
SETTLED = (
    *("seed", "text_column", "text_pair_column", "choices_column", "prompt", "tag_scheme"),
    *("max_length", "stride", "max_target_length", "eval_ratio", "test_ratio", "debug"),
    *("group_column", "folds", "fold", "few_shot", "train_samples", "classes", "batch_tokens"),
    *("mixing", "mixing_temperature", "balanced_sampling", "group_by_length", "loss_weighting"),
    *("model_name_or_path", "scratch_vocab_size", "extra_tokens", "shared_layers", "freeze_layers", "peft"),
    *("lr", "head_lr", "layer_decay", "optimizer", "weight_decay", "warmup_ratio", "warmup_steps"),
    *("lr_scheduler", "lr_scheduler_options"),
    *("monitor", "train_data", "eval_data"),
)
# What may always differ: where things are, what is done besides training. (The contents of files and the tasks are
# compared too: by checksum, and with those of the saved model.)
FREE = (
    *("output_dir", "cache_dir", "train_file", "eval_file", "test_file", "predict_file", "tasks", "datasets"),
    *("do_train", "do_eval", "do_predict", "check", "resume", "device"),
    *("num_workers", "eval_batch_size", "async_save"),
    *("machine_seconds", "tracker", "profile", "peak_tflops"),
)


class ConfigError(ValueError):
    """A mistake in the arguments; the message is `where: field: what is wrong and what would be right`."""

    exit_code = 2


@dataclass
class DataArguments:
    """Data"""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    """list of {name, kind, label_column, loss_weight: 1, labels: from the training file, …options of the head};
    kind is a file name of model_utils/heads. Empty: those of the saved model in model_name_or_path"""
    datasets: list[dict[str, Any]] = field(default_factory=list)
    """several data sets for one encoder: list of {name, tasks: names of theirs, label_columns: {task: column}, and any
    of the options on files and columns here, which are the defaults}. Empty: one data set with all tasks"""
    mixing: Literal["proportional", "temperature", "round_robin", "annealed"] = "proportional"
    """share of each data set in an epoch: by size (each record once), by size to the power of 1 / mixing_temperature,
    equal in turn, or from by size to nearly equal as the epochs go on. Each micro-batch is of one data set"""
    mixing_temperature: float = 2.0
    """with mixing: temperature, at least 1; 1 = by size, above = more even"""
    balanced_sampling: float = 0.0
    """how much more often records of rare classes are drawn, by the first task with one label per record: 0 = each
    record once per epoch, 1 = every class equally often"""
    group_by_length: bool = False
    """records of a step are of about the same length, so that batches hold little padding; not with streaming"""
    text_column: str = "text"
    """column with the text: a string, or a list of words (needed for word-level tasks)"""
    text_pair_column: str | None = None
    """column with the second text of a pair, or with the context of a question; null: single texts"""
    choices_column: str | None = None
    """column with the list of choices, for multiple choice"""
    prompt: str = "{text}"
    """what the model reads in text generation, {text} standing for the text"""
    tag_scheme: Literal["iob2", "iob1", "iobes", "bmes"] = "iob2"
    """scheme of the word-level tags in the files (iobes is BIOES); they are checked and converted to iob2"""
    on_bad_record: Literal["error", "skip"] = "error"
    """error: the first wrong record ends the run with file and line; skip: leave it out, count and list it"""
    train_file: str | None = None
    """.jsonl .json .csv .tsv .conll .txt .parquet, a folder of Dataset.save_to_disk, hub:NAME, or sample:joint"""
    eval_file: str | None = None
    """data that chooses the best state; null: a share eval_ratio of train_file"""
    test_file: str | None = None
    """data that is only scored, with the best state; null: a share test_ratio of train_file"""
    predict_file: str | None = None
    """records to label with --do_predict; gold labels are optional"""
    eval_ratio: float = 0.1
    """share of train_file split off (stratified, seeded) when there is no eval_file; 0 = none"""
    test_ratio: float = 0.0
    """share of train_file split off when there is no test_file; 0 = none"""
    group_column: str | None = None
    """records with the same value in this column are never split between training and evaluation"""
    folds: int = 0
    """cut train_file into so many folds and evaluate on number `fold`; 0 = off. All of them: experiments.folds"""
    fold: int = 0
    """which fold is evaluated, counted from 0"""
    few_shot: int = 0
    """train on so many records of each label; 0 = all"""
    train_samples: int = 0
    """train on so many records; 0 = all"""
    classes: list[str] = field(default_factory=list)
    """train and evaluate only on records with these labels, of the first task with one label per record; empty = all"""
    max_length: int = 128
    """longest input in sub-words, special tokens included; longer ones are cut, lost gold labels count as missed"""
    stride: int = 0
    """sub-words that neighbouring windows of a long text share: nothing is cut; 0 = off"""
    max_target_length: int = 128
    """longest text to be generated, in sub-words; longer ones are cut in training"""
    streaming: bool = False
    """read and encode training records on the fly (.jsonl or .txt of any size) instead of caching them"""
    num_workers: int = 0
    """processes that prepare batches; 0 = the main process"""
    cache_dir: str = "cache"
    """folder of encoded data sets and line indices, reused by later runs"""


@dataclass
class ModelArguments:
    """Model"""

    model_name_or_path: str = "scratch:small"
    """a hub name, a local folder, package:NAME/FOLDER (inside an installed package), or scratch:{tiny,small,base};
    for text_generation scratch:small is a BART, scratch:gpt-small a GPT-2"""
    scratch_vocab_size: int = 8000
    """entries of the tokenizer that scratch:… trains on train_file"""
    extra_tokens: list[str] = field(default_factory=list)
    """tokens added to the tokenizer; the embeddings are resized"""
    unpad: bool | None = None
    """the encoder works on real sub-words alone, with the same outputs; null: on a CPU, if the encoder is one that this
    works for (BERT, RoBERTa, ELECTRA, ERNIE … with sdpa), without compile and tricks that change embeddings of texts"""
    shared_layers: int = 0
    """Transformer layers between encoder and heads, shared by all tasks; 0 = none"""
    freeze_layers: int = 0
    """freeze the embeddings and this many lowest encoder layers; 0 = none, -1 = the whole encoder"""
    peft: dict[str, Any] = field(default_factory=dict)
    """train adapters of the peft library instead of the encoder, for example {peft_type: LORA, r: 8, lora_alpha: 16};
    the rest are that peft_type's own options. Empty = off"""
    trust_remote_code: bool = False
    """run Python code that comes with a model of the hub"""


@dataclass
class TrainArguments:
    """Training"""

    epochs: int = 3
    """passes over the training data"""
    max_steps: int = 0
    """optimizer steps after which training ends; 0 = epochs decides"""
    batch_size: int = 32
    """records of a micro-batch, per process"""
    batch_tokens: int = 0
    """in training, as many records of about the same length in a micro-batch as fit into so many sub-words, padding
    included (inputs x longest one; a text to be generated is an input too); 0 = batch_size decides"""
    eval_batch_size: int = 64
    """records of a batch in eval and predict, per process"""
    accumulate: int = 1
    """micro-batches of one optimizer step; 1 = off"""
    lr: float = 5e-5
    """highest learning rate of the encoder"""
    head_lr: float | None = None
    """highest learning rate of shared layers and heads; null = lr"""
    layer_decay: float = 1.0
    """learning rate of an encoder layer, as a share of that of the layer above; 1 = off"""
    optimizer: Literal["adamw", "adafactor", "muon"] = "adamw"
    """muon: for the matrices of the encoder's layers, and adamw for the rest"""
    weight_decay: float = 0.01
    """decay of weight matrices (never of biases, norms and CRF scores); 0 = off"""
    warmup_ratio: float = 0.0
    """share of all steps in which the learning rate rises; 0 = off"""
    warmup_steps: int = 0
    """optimizer steps in which the learning rate rises; 0 = warmup_ratio decides"""
    lr_scheduler: str = "linear"
    """a name of transformers.get_scheduler"""
    lr_scheduler_options: dict[str, Any] = field(default_factory=dict)
    """that schedule's own options, for example {min_lr_rate: 0.1}"""
    loss_weighting: Literal["fixed", "uncertainty", "dynamic"] = "fixed"
    """of several tasks: their loss_weight alone, or that times a factor: from a learned uncertainty, or from how slowly
    each loss falls (dynamic weight average)"""
    max_grad_norm: float = 1.0
    """gradients are scaled down to this norm; 0 = off"""
    nonfinite: Literal["stop", "skip"] = "stop"
    """a NaN or infinite loss or gradient, never applied: stop with exit code 3, or skip this update"""
    nonfinite_limit: int = 10
    """with nonfinite: skip, more skipped updates than this in a run stop it"""
    on_oom: Literal["stop", "halve"] = "stop"
    """out of memory: stop, or halve the micro-batches and go on, in one process only; the gradient
    stays the same but for rounding, dropout and the directions of FGM"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the device computes it natively, else fp16 on CUDA and fp32 elsewhere"""
    compile: bool = False
    """torch.compile for each layer: the first steps take minutes, in which graphs are made for any length of the texts;
    needs Triton on a GPU, a C++ compiler on a CPU"""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """with several processes: ddp holds weights, gradients and optimizer in each; fsdp spreads them over all (FSDP2),
    with adamw, without fp16, PGD, AWP, SAM and child-tuning"""
    activation_checkpointing: bool = False
    """keep of each layer only what goes into it, and compute the rest once more for the gradients: less memory, about a
    third more computation"""


@dataclass
class TrickArguments:
    """Tricks (what each of them is, costs, and does not go with: tricks/README.md)"""

    use_fgm: bool = False
    """adversarial training: one step on the embedding table"""
    fgm_eps: float = 1.0
    """length of the step"""
    use_pgd: bool = False
    """adversarial training: several steps on the embedded texts"""
    pgd_eps: float = 1.0
    """greatest length of a text's change"""
    pgd_alpha: float = 0.3
    """length of a step"""
    pgd_steps: int = 3
    """steps, each a forward and backward pass"""
    use_freelb: bool = False
    """adversarial training: the mean gradient of several steps on the embedded texts"""
    freelb_eps: float = 0.5
    """greatest length of a text's change"""
    freelb_alpha: float = 0.3
    """length of a step"""
    freelb_steps: int = 3
    """steps, each a forward and backward pass"""
    use_awp: bool = False
    """adversarial training: a step of the weights"""
    awp_gamma: float = 0.005
    """length of the step, as a share of each matrix's norm"""
    use_sam: bool = False
    """sharpness-aware minimization: the gradient a small step uphill"""
    sam_rho: float = 0.05
    """length of the step, over all weights together"""
    use_vat: bool = False
    """virtual adversarial training: predictions should not change near a text"""
    vat_weight: float = 1.0
    """factor of this part of the loss"""
    vat_eps: float = 1.0
    """length of a text's change"""
    use_neftune: bool = False
    """uniform noise on the embedded texts"""
    neftune_alpha: float = 5.0
    """strength of the noise"""
    use_rdrop: bool = False
    """two passes with different dropout should agree"""
    rdrop_alpha: float = 4.0
    """factor of the disagreement, as in the paper"""
    use_mixup: bool = False
    """classify means of two texts' vectors (kind sequence_classification)"""
    mixup_alpha: float = 0.2
    """of the Beta distribution of the shares; small = hardly mixed"""
    use_multi_sample_dropout: bool = False
    """several dropout masks before the heads"""
    multi_sample_dropout_samples: int = 4
    """how many"""
    use_label_smoothing: bool = False
    """targets below 1, of tasks of classes without a `criterion` of their own"""
    label_smoothing_amount: float = 0.1
    """share of the probability that is spread over the classes"""
    use_focal: bool = False
    """focal loss, of tasks of classes without a `criterion` of their own"""
    focal_gamma: float = 2.0
    """larger = easy items count less"""
    use_dice: bool = False
    """dice loss, of tasks of classes without a `criterion` of their own"""
    dice_alpha: float = 0.6
    """larger = easy items count less"""
    use_ghm: bool = False
    """gradient harmonizing mechanism, of tasks of classes without a `criterion` of their own"""
    ghm_bins: int = 10
    """bins of gradient lengths"""
    use_distillation: bool = False
    """learn also from the probabilities of a trained model"""
    distillation_teacher: str | None = None
    """its folder, with the same tokenizer and labels"""
    distillation_alpha: float = 0.5
    """share of the teacher in the loss"""
    distillation_temperature: float = 2.0
    """of the probabilities; higher = softer"""
    use_ema: bool = False
    """evaluate and keep an exponential moving average of the weights"""
    ema_decay: float = 0.999
    """share of the old average in each update"""
    use_swa: bool = False
    """evaluate and keep the mean of the weights at several points"""
    swa_start: float = 0.5
    """share of all steps after which averaging begins"""
    swa_every: int = 50
    """optimizer steps between two points"""
    use_lookahead: bool = False
    """every few updates go only part of the way"""
    lookahead_k: int = 5
    """updates between"""
    lookahead_alpha: float = 0.5
    """part of the way"""
    use_gradual_unfreezing: bool = False
    """train the heads first, then one layer of the encoder after the other, from the top"""
    gradual_unfreezing_every: int = 100
    """optimizer steps until the next layer"""
    use_reinit: bool = False
    """draw the top layers of a pretrained encoder anew"""
    reinit_layers: int = 1
    """how many"""
    use_child_tuning: bool = False
    """each update changes a part of the encoder's weights"""
    child_tuning_share: float = 0.3
    """how large a part"""
    child_tuning_batches: int = 0
    """micro-batches whose gradients choose the part once and for all; 0 = another random part in each update"""


@dataclass
class RunArguments:
    """Run"""

    output_dir: str = "output/run"
    """folder of everything that comes out"""
    do_train: bool = False
    """train on train_file"""
    do_eval: bool = False
    """score eval_file and test_file with the best state"""
    do_predict: bool = False
    """label predict_file with the best state"""
    check: bool = False
    """look for mistakes before the run, in data, model and machine, without training; prints a table, writes only the
    cache and output_dir/check.json; exit code 2 if there is an error; see docs/data_findings.md"""
    debug: bool = False
    """the whole line on the first 64 records of each file"""
    resume: str = "auto"
    """auto: go on from output_dir/last if it is there; never: refuse a used folder; PATH: go on from that state.
    Arguments that would make it another run (seed, data, model, learning rates …) are then refused"""
    monitor: str | None = None
    """metric that chooses the best state, e.g. slots/f1; null: sentence_accuracy, or the only task's main metric"""
    patience: int = 0
    """evaluations without improvement after which training stops; 0 = never"""
    metrics: list[str] = field(default_factory=list)
    """own metrics: package.module:function, called as function(predictions, references) -> dict of numbers"""
    eval_steps: int = 0
    """optimizer steps between evaluations; 0 = at the end of each epoch"""
    save_steps: int = 0
    """optimizer steps between saves of last/; 0 = after each evaluation"""
    save_minutes: float = 0.0
    """minutes between saves of last/, beside save_steps; 0 = off"""
    keep_states: int = 0
    """newest saved states that also stay in states/step-N; 0 = none but last/ and the one before it"""
    save_format: Literal["whole", "sharded"] = "whole"
    """of the optimizer's state in last/: whole is one file by the first process; with sharded each process writes its
    part, which any number of them can read again; needs a file system in common"""
    async_save: bool = True
    """write states while training goes on; takes main memory for a copy of the optimizer's state and two of the
    weights; false: training waits for the disk"""
    logging_steps: int = 20
    """optimizer steps between log lines"""
    machine_seconds: float = 5.0
    """seconds between two looks at CPU, memory and GPUs, for machine.json and TensorBoard; 0 = off"""
    tracker: Literal["none", "trackio", "swanlab", "wandb"] = "none"
    """send all figures to this library, too, which must be installed"""
    profile: int = 0
    """optimizer steps that torch.profiler records, near the start, into profile/; 0 = off"""
    peak_tflops: float = 0.0
    """TFLOP/s that the device can do in this precision, for the MFU; 0 = those of a known GPU (trainer/speed.py)"""
    seed: int = 42
    """of weights, dropout and the order of the data"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps …"""


LOOK_UP_TRICKS = ("pgd", "freelb", "vat", "neftune")  # change what embeddings return, text by text
WHOLE_TRICKS = ("pgd", "awp", "sam", "child_tuning")  # need whole weights, or whole gradients, in between
TRICKS = [f.name for f in dataclasses.fields(TrickArguments)]


@dataclass
class Arguments(RunArguments, TrickArguments, TrainArguments, ModelArguments, DataArguments):
    """All arguments in one flat object; the groups only order the help text."""

    GROUPS: ClassVar[Any] = (DataArguments, ModelArguments, TrainArguments, TrickArguments, RunArguments)
    HIDDEN: ClassVar[Sequence[str]] = ()
    """names that stay at their defaults and are no options"""


def get_args(argv: list[str] | None = None) -> Arguments:
    """Parse and check the arguments (default: sys.argv). Raises ConfigError; exits 0 after --help, --show_all_args."""
    args = parse_into(Arguments, argv, "main.py", "Train, evaluate, predict.")
    check(args)
    return args


def parse_into(kind: Any, argv: list[str] | None, prog: str, description: str) -> Any:
    """The arguments of a script, not checked yet.

    Args:
        kind: a dataclass like Arguments, with GROUPS and HIDDEN.
    """
    argv = explicit_booleans(sys.argv[1:] if argv is None else list(argv), kind)
    show = "--show_all_args" in argv
    argv = [a for a in argv if a != "--show_all_args"]
    parser = ArgumentParser(prog=prog, description=description, exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of the options below")
    parser.add_argument("--show_all_args", action="store_true", help="print all options with their values and exit")
    for group in kind.GROUPS:
        parser.add_class_arguments(group, skip={f.name for f in dataclasses.fields(group)} & {*kind.HIDDEN})
    names = [f.name for f in dataclasses.fields(kind) if f.name not in kind.HIDDEN]
    files, argv = config_files(argv)
    for path in files:  # each file alone first, so that its mistakes are reported with its name
        parse(parser, ["--config", path], path, names)
    files_first = [f"--config={path}" for path in files] + argv  # the parser lets win what comes last
    values = parse(parser, files_first, "command line", names)
    args = kind(**{name: values[name] for name in names})
    if show:
        print(to_yaml(args), end="")
        sys.exit(0)
    return args


def chosen_tricks(args: Arguments) -> dict[str, dict[str, Any]]:
    """The tricks that are used, by the name of their file, with their options by the name of their parameters."""
    used = [name.removeprefix("use_") for name in TRICKS if name.startswith("use_") and getattr(args, name)]
    found: dict[str, dict[str, Any]] = {}
    for trick in used:
        own = [name for name in TRICKS if name.startswith(f"{trick}_")]
        options = {name.removeprefix(f"{trick}_"): getattr(args, name) for name in own}
        found[trick] = {{"eps": "epsilon"}.get(name, name): value for name, value in options.items()}
    return found


def explicit_booleans(argv: list[str], kind: Any) -> list[str]:
    """`--use_fgm` means `--use_fgm true`."""
    booleans = {f"--{f.name}" for f in dataclasses.fields(kind) if f.type in (bool, bool | None)}
    out = []
    for this, following in pairwise([*argv, ""]):
        out.append(this)
        if this in booleans and following.lower() not in ("true", "false", "yes", "no", "null"):
            out.append("true")
    return out


def config_files(argv: list[str]) -> tuple[list[str], list[str]]:
    """The files of --config, in their order, and the other arguments."""
    files, others, rest = [], [], iter(argv)
    for word in rest:
        name, is_joined, path = word.partition("=")
        if name != "--config":
            others.append(word)
        elif is_joined or (path := next(rest, "")):
            files.append(path)
        else:
            raise ConfigError("command line: --config: needs a file, for example configs/sample_joint.yaml")
    return files, others


def parse(parser: ArgumentParser, argv: list[str], where: str, known: Sequence[str]) -> Any:
    try:
        return parser.parse_args(argv)
    except ArgumentError as error:
        raise ConfigError(explain(str(error), where, known)) from None


def explain(message: str, where: str, known: Sequence[str]) -> str:
    """jsonargparse's message as one line `where[:line]: field: what; what would be right`."""
    message = " ".join(message.split())
    unknown = re.search(r"Option '([^']+)' is not accepted|unrecognized arguments: (?:--)?([^\s=]+)", message)
    wrong = re.search(r'Parser key "([^"]+)": (.*)', message)
    if unknown:
        name = unknown[1] or unknown[2]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "--help lists the options"
        return f"{located(where, name)}: {name}: unknown option; {hint}"
    if wrong and wrong[1] == "config":
        return f"command line: config: {wrong[2]}"
    if wrong:
        what = re.sub(r"<class '(\w+)'>", r"\1", wrong[2]).replace("typing.", "")
        return f"{located(where, wrong[1])}: {wrong[1]}: {what}"
    return f"{where}: {message}"


def located(where: str, key: str) -> str:
    """`file:line` of a top-level key of a YAML file, or `where` itself."""
    if Path(where).is_file():
        for number, line in enumerate(Path(where).read_text(encoding="utf-8").splitlines(), 1):
            if re.match(rf"{re.escape(key)}\s*:", line):
                return f"{where}:{number}"
    return where


def check(args: Arguments) -> None:
    """Refuse contradictions and impossible values, and put DATA_DIR in place of a leading `data/`."""
    check_training(args)
    check_numbers(args, above_0=("scratch_vocab_size", "max_target_length"),
                  not_negative=("num_workers", "stride", "folds", "fold", "shared_layers", "batch_tokens"))  # fmt: skip
    require(args.mixing_temperature >= 1, "mixing_temperature", "must be at least 1")
    require(0 <= args.balanced_sampling <= 1, "balanced_sampling", "must be between 0 and 1")
    require(not (args.group_by_length and args.streaming), "group_by_length", "lengths of streamed data are not known")
    check_batch_tokens(args)
    check_data_options(vars(args))
    require(args.folds != 1, "folds", "must be at least 2, or 0 for none")
    require(args.fold < max(args.folds, 1), "fold", f"is counted from 0; of {args.folds} the last is {args.folds - 1}")
    require(args.max_length >= 3, "max_length", "must leave room for a word and two special tokens: at least 3")
    require(args.freeze_layers >= -1, "freeze_layers", "must be -1 (all), 0 (none) or a number of layers")
    require(not (args.unpad and args.compile), "unpad", "does not go with compile; give one of them")
    for trick in LOOK_UP_TRICKS:
        clash = args.unpad and trick in chosen_tricks(args)
        require(not clash, "unpad", f"does not go with use_{trick}, which changes each text's embeddings; leave it out")
    for name in ("use_reinit", "use_gradual_unfreezing"):
        require(not (args.peft and getattr(args, name)), "peft", f"leaves the encoder as it is; leave {name} out")
    require(
        any((args.do_train, args.do_eval, args.do_predict, args.check)),
        "do_train",
        "nothing to do; give --do_train, --do_eval, --do_predict or --check",
    )
    check_tasks(args.tasks)
    check_data_sets(args)
    found = data_sets(args, args.tasks)
    for needed, name in ((args.do_train, "train_file"), (args.do_predict, "predict_file")):
        require(not needed or any(part[name] for part in found), name, f"needed by do_{name.split('_')[0]}")
    trained = [part["train_file"] for part in found if part["train_file"]]
    several = f"goes with one data set, and there are {len(trained)} to train on"
    for name in ("streaming", "batch_tokens"):
        require(not (args.do_train and getattr(args, name)) or len(trained) == 1, name, several)
    if args.streaming and args.do_train:
        require(
            trained[0].endswith(STREAMABLE),
            "streaming",
            f"train_file must be one of {', '.join(STREAMABLE)}, because other formats cannot be read by line",
        )
    has_own_tasks = Path(args.model_name_or_path, "labels.json").is_file() or not (args.do_train or args.check)
    require(
        bool(args.tasks) or has_own_tasks,
        "tasks",
        "none given; for example --tasks '[{name: topic, kind: sequence_classification, label_column: label}]' "
        "or --config configs/sample_joint.yaml",
    )


def check_training(args: Any) -> None:
    """What TrainArguments, TrickArguments and RunArguments allow."""
    check_numbers(
        args,
        above_0=("accumulate", "logging_steps", "lr"),
        not_negative=(
            *("max_steps", "epochs", "warmup_steps", "weight_decay", "max_grad_norm", "patience", "nonfinite_limit"),
            *("eval_steps", "save_steps", "save_minutes", "keep_states", "seed", "fgm_eps", "child_tuning_batches"),
            *("machine_seconds", "profile", "peak_tflops"),
        ),
    )
    if args.tracker != "none":
        found = find_spec(args.tracker)  # a folder of that name, as some of them leave behind, has no origin
        there = found is not None and found.origin is not None
        require(there, "tracker", f"{args.tracker} is not installed: pip install {args.tracker}")
    require(0 <= args.swa_start <= 1, "swa_start", "is a share of all steps, between 0 and 1")
    require(0 < args.layer_decay <= 1, "layer_decay", "must be above 0 and at most 1, which is off")
    require(0 <= args.warmup_ratio < 1, "warmup_ratio", "must be at least 0 and below 1")
    require(not (args.warmup_ratio and args.warmup_steps), "warmup_ratio", "give this or warmup_steps, not both")
    if args.parallel == "fsdp":
        others = [f"use_{trick}" for trick in chosen_tricks(args) if trick in WHOLE_TRICKS]
        require(not others, "parallel", f"fsdp does not go with {', '.join(others)}; leave them out, or give ddp")
        require(args.optimizer == "adamw", "parallel", f"fsdp goes with adamw, not with {args.optimizer}")
        require(args.precision != "fp16", "parallel", "fsdp goes with bf16 or fp32, not with fp16")
    require(args.epochs > 0 or args.max_steps > 0, "epochs", "epochs and max_steps are both 0: give one of them")
    require(args.seed < 2**32, "seed", "must be below 2**32")


def check_batch_tokens(args: Arguments) -> None:
    if args.batch_tokens:
        require(not args.streaming, "batch_tokens", "lengths of streamed data are not known")
        require(not args.group_by_length, "batch_tokens", "groups by length itself; leave group_by_length out")
        once = "takes each record once per epoch; leave balanced_sampling out"
        require(not args.balanced_sampling, "batch_tokens", once)
        longest = f"must be at least max_length, which is {args.max_length}"
        require(args.batch_tokens >= args.max_length, "batch_tokens", longest)


def check_numbers(args: Any, above_0: Sequence[str], not_negative: Sequence[str]) -> None:
    for name in above_0:
        require(getattr(args, name) > 0, name, "must be above 0")
    for name in not_negative:
        require(getattr(args, name) >= 0, name, "must not be negative")


def check_tasks(tasks: list[dict[str, Any]]) -> None:
    kinds = sorted(p.stem for p in Path(__file__).with_name("model_utils").glob("heads/*.py") if p.stem[0] != "_")
    for number, task in enumerate(tasks):
        where = f"tasks[{number}]"
        for key in ("name", "kind", "label_column"):
            require(isinstance(task.get(key), str) and bool(task[key]), where, f"needs {key}, a text")
        plain = re.fullmatch(r"\w+", task["name"]) is not None
        require(plain, where, f"name {task['name']!r}: letters, digits and _ only")
        require(task["kind"] in kinds, where, f"unknown kind {task['kind']!r}; there are {', '.join(kinds)}")
        require(
            isinstance(task.get("loss_weight", 1.0), int | float) and task.get("loss_weight", 1.0) >= 0,
            where,
            "loss_weight must be a number, not negative",
        )
    names = [task["name"] for task in tasks]
    require(len(set(names)) == len(names), "tasks", f"names must differ, found {names}")


DATA_SET = (  # options that a data set may have for itself
    *("train_file", "eval_file", "test_file", "predict_file", "eval_ratio", "test_ratio", "text_column"),
    *("text_pair_column", "choices_column", "prompt", "group_column", "few_shot", "train_samples", "classes"),
    *("tag_scheme", "on_bad_record", "batch_size", "eval_batch_size"),
)


def data_sets(args: Arguments, tasks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every data set with all options of DATA_SET, its name, the names of its tasks, and their label columns."""
    defaults = {name: getattr(args, name) for name in DATA_SET}
    columns = {task["name"]: task["label_column"] for task in tasks}
    return [
        defaults
        | entry
        | {"tasks": entry.get("tasks", list(columns)), "label_columns": columns | entry.get("label_columns", {})}
        for entry in args.datasets or [{"name": "data"}]
    ]


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of the type of an option of DATA_SET."""
    if get_origin(annotation) is Literal:
        return value in get_typing_args(annotation)
    if get_origin(annotation) is list:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if get_typing_args(annotation):  # str | None
        return value is None or fits(value, get_typing_args(annotation)[0])
    return isinstance(value, int | float if annotation is float else annotation) and not isinstance(value, bool)


def check_data_sets(args: Arguments) -> None:
    types = {f.name: f.type for f in dataclasses.fields(Arguments)}
    known = [task["name"] for task in args.tasks]
    for name in ("train_file", "eval_file", "test_file", "predict_file"):
        setattr(args, name, resolve_file(name, getattr(args, name)))
    for number, entry in enumerate(args.datasets):
        where = f"datasets[{number}]"
        named = isinstance(entry.get("name"), str) and re.fullmatch(r"\w+", entry["name"])
        require(bool(named), where, "needs name: letters, digits and _ only")
        for key, value in entry.items():
            if key in ("name", "tasks", "label_columns"):
                continue
            close = difflib.get_close_matches(key, DATA_SET, n=1)
            hint = f"did you mean {close[0]}?" if close else f"a data set may have {', '.join(DATA_SET)}"
            require(key in DATA_SET, where, f"{key}: unknown option; {hint}")
            require(fits(value, types[key]), where, f"{key}: {value!r} is no value of --{key}")
            if key.endswith("_file"):
                entry[key] = resolve_file(f"{where}: {key}", value)
        check_data_options(vars(args) | entry, where)
        check_tasks_of_data_set(where, entry, known)
    names = [entry["name"] for entry in args.datasets]
    require(len(set(names)) == len(names), "datasets", f"names must differ, found {names}")
    read = {task for part in data_sets(args, args.tasks) for task in part["tasks"]}
    unread = [task for task in known if task not in read]
    require(not unread, "datasets", f"none has the task {', '.join(unread)}")


def check_data_options(values: Mapping[str, Any], data_set: str | None = None) -> None:
    """data_set: which of `datasets` they are of; None: the arguments themselves."""

    def need(condition: bool, name: str, message: str) -> None:
        require(condition, *((name, message) if data_set is None else (data_set, f"{name}: {message}")))

    for name in ("batch_size", "eval_batch_size"):
        need(values[name] > 0, name, "must be above 0")
    for name in ("eval_ratio", "test_ratio"):
        need(0 <= values[name] < 1, name, "must be at least 0 and below 1")
    in_all = values["eval_ratio"] + values["test_ratio"]
    need(in_all < 1, "eval_ratio", "eval_ratio + test_ratio must stay below 1")
    for name in ("eval_file", "test_ratio"):
        need(not (values["folds"] and values[name]), "folds", f"cuts train_file by itself; leave {name} out")
    for name in ("few_shot", "train_samples"):
        need(values[name] >= 0, name, "must not be negative")
    need(not (values["few_shot"] and values["train_samples"]), "few_shot", "give this or train_samples, not both")
    once = values["prompt"].count("{text}") == 1
    need(once, "prompt", "must have {text} in it once, which stands for the text")


def check_tasks_of_data_set(where: str, entry: Mapping[str, Any], known: Sequence[str]) -> None:
    """known: names of all tasks; none where a saved model has them."""
    tasks, columns = entry.get("tasks", ["all"]), entry.get("label_columns", {})
    names = isinstance(tasks, list) and bool(tasks) and all(isinstance(task, str) for task in tasks)
    require(names, where, f"tasks must be a list of their names, found {tasks!r}")
    require(len(set(tasks)) == len(tasks), where, f"tasks must differ, found {tasks}")
    texts = isinstance(columns, dict) and all(isinstance(column, str) and column for column in columns.values())
    require(texts, where, f"label_columns must be {{task: column}}, found {columns!r}")
    for task in [*entry.get("tasks", []), *columns]:
        require(not known or task in known, where, f"no task {task!r}; there are {', '.join(known)}")


def resolve_file(name: str, source: str | None) -> str | None:
    if not source or source.startswith(("hub:", "sample:")):
        return source or None
    path = in_data_dir(source)
    found = os.path.exists(path)  # unlike Path.exists it is False where a folder on the way may not be entered
    require(found, name, f"there is no file {path} (paths count from {Path.cwd()}; DATA_DIR replaces data/)")
    return path


def in_data_dir(source: str) -> str:
    """The path, with DATA_DIR in place of a leading `data/`."""
    path = Path(source)
    if os.environ.get("DATA_DIR") and path.parts[:1] == ("data",):
        path = Path(os.environ["DATA_DIR"], *path.parts[1:])
    return str(path)


def require(condition: bool, name: str, message: str) -> None:
    if not condition:
        raise ConfigError(f"arguments: {name}: {message}")


def check_resume(
    saved: Mapping[str, Any], now: Mapping[str, Any], state: str | Path, settled: Collection[str] = (*SETTLED, *TRICKS)
) -> list[str]:
    """Compare the arguments of a saved run with those of now; what differs and may, one text each. Raises ConfigError.

    Args:
        saved: as written into trainer_state.json.
        now: the same names; train_data and eval_data are checksums.
        settled: names of what may not differ.
    """
    differ = [name for name in now if name in saved and saved[name] != now[name]]
    for name in differ:
        if name in settled:
            is_data = name.endswith("_data")
            what = "is not that of" if is_data else f"is {now[name]!r}, but {saved[name]!r} in"
            right = "go on with the same, or begin anew in another --output_dir"
            raise ConfigError(f"arguments: {name}: {what} the saved run {state}; {right}")
    return [f"{name} {saved[name]!r} -> {now[name]!r}" for name in differ if name not in FREE]


def to_yaml(args: Any) -> str:
    """All values as YAML that `--config` reads back."""
    values = {name: value for name, value in dataclasses.asdict(args).items() if name not in args.HIDDEN}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices). The order of the data does not depend on these: see data_loader."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)

"""Writes `MODEL_CARD.md` of an exported model from its `evaluation.json`, its `vocabulary.json` and
the logs of the stages, so that no figure in it is typed by hand."""

import json
from pathlib import Path

from .config import FPS, FRAMES, LENGTHS, SHAPES, SIZE
from .data import Clips
from .dit import SHARES

ROWS = {
    "real_clips_shifted": "real clips, half a second later",
    "trained_pairs": "trained object x colour",
    "trained_pairs_in_4_steps": "the same in 4 steps, first seeds",
    "held_out_pairs": "held-out object x colour",
    "unseen_synonyms": 'synonyms never trained, such as "kitten"',
}


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def last(work: Path, stage: str) -> dict:
    """The last line of a stage's log."""
    return json.loads((work / stage / "log.jsonl").read_text().splitlines()[-1])


def spent(work: Path, stage: str) -> str:
    entry = last(work, stage)
    return f"{entry['minutes']:.0f} minutes, {entry['step']:,} steps"


def table(evaluation: dict) -> str:
    lines = [
        "| | clips | top-1 | top-5 | background colour | motion within 0.5-2x of the real clip |",
        "|---|---|---|---|---|---|",
    ]
    for name, label in ROWS.items():
        row = evaluation[name]
        shares = [percent(row[key]) for key in ("top1", "top5", "background")]
        motion = row.get("motion_within_0.5_to_2x")
        shares.append("" if motion is None else percent(motion))
        lines.append(f"| {label} | {row['count']} | {' | '.join(shares)} |")
    return "\n".join(lines)


def cascade(evaluation: dict, work: Path) -> str:
    """The section on the two stages."""
    stages = evaluation["cascade"]
    lines = ["| | PSNR | plain | gain | aim | gradients (aim: 0.8) |", "|---|---|---|---|---|---|"]
    for name, plain, aim in (("upscale", "Catmull-Rom", 1.0), ("interpolate", "means", 1.5)):
        for kind, label in (("clean", "clean"), ("decoded", "through the autoencoder")):
            row = stages[name][kind]
            edges = f"{row['gradients']:.2f} ({plain} {row['baseline_gradients']:.2f})"
            lines.append(
                f"| {name}, {label} | {row['psnr']:.2f} dB | {plain} {row['baseline']:.2f} dB "
                f"| {row['gain']:+.2f} dB | {aim} dB | {edges} |"
            )
    table, between = "\n".join(lines), stages["interpolate"]
    return f"""## Larger, and with more frames

Two small stages (`upscale/`, 0.22 M parameters; `interpolate/`, 0.61 M; class and reference `training/cascade.py`) make
{2 * SIZE}x{2 * SIZE} of {SIZE}x{SIZE} and {2 * FRAMES - 1} frames at {2 * FPS} fps of {FRAMES}: `--upscale 2 --interpolate 2`. They denoise in one
step by regression, no sampling: each corrects a guess (Catmull-Rom; for frames between, means of the pixels that match within 4
pixels), told whether its input is clean or went through the autoencoder, whose error is the noise of their noise conditioning. On
the {stages["upscale"]["clean"]["count"]} held-out names, means over clips; gradients are mean absolute differences of neighbouring
pixels as a multiple of the real clip's:

{table}

Most of the temporal stage's gain on clean clips is the matching (alone {between["clean"]["matching"]:.2f} dB). On decoded clips the
autoencoder's own error (24.4 dB) outweighs what either stage can put right, and their aims are missed there. Motion beyond 4
pixels each way is not found and blurs. Training: `upscale` {spent(work, "upscale")}, `interpolate` {spent(work, "interpolate")} of wall
clock on a share of one core beside other work.

What both stages cost, measured coarsely (test build, beside other work, loading included): a clip of 4 steps without them took 4.7 s
on lavapipe and 26 s on SwiftShader, one of 2 steps with them 14 and 58 s. So they cost more than the clip on lavapipe (aim: no
more) and about as much on SwiftShader (aim: three times)."""


def card(work: Path, out: Path) -> str:
    evaluation = json.loads((out / "evaluation.json").read_text())
    vocabulary = json.loads((out / "vocabulary.json").read_text())
    megabytes = sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) / 1e6
    things = [f"{o['name']} ({', '.join(o['motions'])})" for o in vocabulary["objects"]]
    shapes = ", ".join(f"{width}x{height}" for height, width in SHAPES.values())
    lengths = ", ".join(map(str, LENGTHS))
    image, vae = evaluation["image_to_video_held_out"], evaluation["vae"]
    ends, both = evaluation["first_and_last"], evaluation["prefix_and_suffix"]
    seam = "seam_up_to_1.5x_median_step"
    everyday = evaluation["everyday_prompts"]
    square, other = SHARES["square"] + SHARES["later"] + SHARES["others"], 1 - sum(SHARES.values())
    return f"""# flipbook

Kinora's default text-to-video model: clips of {FRAMES} frames, {SIZE}x{SIZE}, {FPS} fps, of one animated
object on a plain background. An LTX-Video transformer (9.2 M parameters) and autoencoder (7.6 M) in
diffusers layout with a MiniLM-L6 text encoder; matrices are stored in 8 bits (q8_0: I8 values and F16
scales, `training/quantise.py` reads and writes them). {megabytes:.1f} MB in all.

![First seeds, none left out](../../docs/flipbook-contact-sheet.png)

## What it draws

`{vocabulary["template"]}`, for example "a rocket flying on a blue background". Backgrounds:
{", ".join(vocabulary["colors"])}; white where a prompt names none. The {len(things)} objects with their motions:

{"; ".join(things)}.

Synonyms it was trained with are in `vocabulary.json`.

| seen in training | |
|---|---|
| shapes | {shapes} |
| frames | {lengths} |
| given | any first, last or single latent frames, or none |

In the end of its training {percent(square)} of the clips were square; the other shapes share {percent(other)}. Those
with a side of 128 come out best, 192x128 and 128x192 like the square. Six shapes that it never saw, first
seeds:

![Six shapes that were not trained](../../docs/flipbook-shapes.webp)

## What it makes of prompts

Kinora reads prompts in the words above, and says what it took them for and what is not known. Of the
120 everyday prompts in `training/data/everyday_prompts.tsv` (a thing alone, synonyms, plurals, two things,
feelings, "a cute ...", misspellings, sentences), which were labelled before anything read them, it finds
the object of {everyday["object_right"]} of {everyday["drawable"]} and calls {everyday["drawable_called_unknown"]} of these unknown; of {everyday["undrawable"]} things that it cannot
draw it calls {everyday["undrawable_called_unknown"]} unknown, and draws the nearest. The list of things it cannot draw holds most of
these nouns; with all of them struck from it, 21 of 30.

## What it cannot draw

Anything else. Other objects, scenes, several objects, styles, camera motion and text are outside its
data; given to it as they are written, words it does not know give an object it does, or a blur. It was trained on one window of
one clip per object, so it recalls these animations, on any of the backgrounds, rather than inventing
new ones; different seeds differ little, and motion is mostly gentle. The autoencoder is the weakest
part: fine detail is soft and fast motion blurs.

## Training

Data: {len(Clips(work).index)} animated emoji (Microsoft, MIT), decoded at {FPS} fps over plain backgrounds; the
autoencoder saw all but {vae["held_out_names"]} held-out names, the transformer {len(things)} objects x 8 colours
without 8 % held-out pairs, and further clips only to continue given frames. No other data. Two CPU
cores shared with other work, wall-clock time: autoencoder {spent(work, "vae")}; transformer
{spent(work, "dit")}, started from the weights of an earlier run with another text encoder; decoder
alone {spent(work, "refine")}. Not distilled: default {evaluation["steps"]} steps with guidance {evaluation["guidance"]:g}.
Recipe: `training/`.

## Evaluation

`evaluation.json`, written by `python -m training evaluate`; first seeds, two per pair, one per
synonym. Objects are recognised by a small classifier trained on real clips, which names
{100 * evaluation["classifier_own_top1"]:.1f} % of {4 * evaluation["objects"]} real clips it has not seen.

{table(evaluation)}

Given frames: first frames of {image["count"]} objects that no part of the model was trained on are continued
at least 1 dB better than by repeating the frame in {percent(image["gain_of_1_db_over_repeating"])} of them (aim: 60 %; median
{image["median_gain_db"]:.1f} dB on the second latent frame). Filling in between given frames of the vocabulary leaves
no seam (largest step across a seam at most 1.5 times the median step) in {percent(ends[seam])} of {ends["count"]} clips
with both ends given and in {percent(both[seam])} with two latent frames given on either side.

Autoencoder on {vae["held_out_names"]} held-out names: {vae["psnr_db"]:.1f} dB PSNR (aim: 27), flicker of still background
{vae["flicker_255"]:.1f}/255 (aim: 1).

{cascade(evaluation, work)}

## Licence

Data and text encoder: see `NOTICE`. The trained weights come under Kinora's licence
(MIT OR Apache-2.0), to be passed on with `NOTICE`.
"""


def main(work: Path, out: Path) -> None:
    (out / "MODEL_CARD.md").write_text(card(work, out))

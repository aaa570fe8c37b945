"""The curves behind lesson 13: 600 steps of Lakeland by the library, and by the lesson's frame with borrowed parts.

    python benchmarks/five_minutes.py [--out runs/five_minutes] [--only library] [--write]

Both start from the same numbers and see the same scenes at the same rates, so their losses part only by rounding.
Each keeps what it has every 50 steps and goes on from there when started again; --write makes data/five_minutes.json,
which the lesson reads, of the two finished runs.
"""
import argparse
import json
import time
from pathlib import Path

import torch

from minimaskformer import Lakeland, SetCriterion, build_model, evaluate
from minimaskformer.config import get_config
from minimaskformer.exercises import my_maskformer
from minimaskformer.training.optim import parameter_groups, set_learning_rate
from minimaskformer.training.recipes import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
RECIPE = {"size": 64, "difficulty": 0.4, "steps": 600, "batch": 16, "peak": 4e-4, "warmup": 120, "start": 1, "order": 0}
CONFIG = get_config("mini", short_side=RECIPE["size"])
JUDGED = 100  # validation scenes
KEEP = 50  # steps from one saved state to the next


class Frame:
    """The course's frame around the library's functions, as lesson 13 runs it for a learner who has written none."""

    def __init__(self):
        self.my = my_maskformer.mine(ROOT / "benchmarks")  # nobody keeps parts there, so all are borrowed
        self.parameters = self.my.draw_parameters(CONFIG, RECIPE["start"])
        self.optimizer = self.my.make_optimizer(self.parameters)

    def step(self, batch, step):
        rate = self.my.learning_rate(step, RECIPE["steps"], RECIPE["peak"], RECIPE["warmup"])
        return self.my.one_step(self.parameters, self.optimizer, batch, rate, CONFIG)

    def state(self):
        return self.parameters

    def load(self, state):
        for name, tensor in state.items():
            self.parameters[name].data.copy_(tensor)

    def judge(self, scenes):
        parameters = {name: tensor.detach() for name, tensor in self.parameters.items()}
        return self.my.score_model(parameters, scenes, len(scenes), CONFIG)


class Library:
    """The library's model, criterion and optimizer."""

    def __init__(self):
        self.model, self.criterion = build_model(CONFIG), SetCriterion(CONFIG.num_classes, mask_stride=2)
        self.model.load_state_dict(Frame().parameters)
        self.config = TrainConfig(steps=RECIPE["steps"], warmup=RECIPE["warmup"], learning_rate=RECIPE["peak"])
        self.optimizer = torch.optim.AdamW(parameter_groups(self.model, self.config), betas=(0.9, self.config.beta2))

    def step(self, batch, step):
        set_learning_rate(self.optimizer, self.config, step)
        images = self.model.normalize(torch.stack([image for image, _ in batch]))  # [B, 3, H, W]
        loss = self.criterion(self.model.train()(images), [target for _, target in batch])["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        return loss.item()

    def state(self):
        return self.model.state_dict()

    def load(self, state):
        self.model.load_state_dict(state)

    def judge(self, scenes):
        figures = evaluate(self.model.eval(), scenes, progress=False)
        return {name: figures[name] for name in ("pq", "miou", "ap50")}


def run(learner, file):
    """Train to the end, from the state in `file` if there is one; returns losses, seconds and figures."""
    scenes = Lakeland("train", RECIPE["size"], RECIPE["difficulty"])
    drawn = torch.Generator().manual_seed(RECIPE["order"])
    chosen = [torch.randint(len(scenes), (RECIPE["batch"],), generator=drawn).tolist() for _ in range(RECIPE["steps"])]
    losses, seconds = [], 0.0
    if file.exists():
        kept = torch.load(file, weights_only=True)
        learner.load(kept["state"])
        learner.optimizer.load_state_dict(kept["optimizer"])
        losses, seconds = kept["losses"], kept["seconds"]
    start = time.process_time()
    for step in range(len(losses) + 1, RECIPE["steps"] + 1):
        losses.append(learner.step([scenes[i] for i in chosen[step - 1]], step))
        if step % KEEP == 0 or step == RECIPE["steps"]:
            seconds, start = seconds + time.process_time() - start, time.process_time()
            torch.save({"state": learner.state(), "optimizer": learner.optimizer.state_dict(), "losses": losses,
                        "seconds": seconds}, file)
            print(f"{file.stem}: step {step}, loss {losses[-1]:.2f}, {seconds:.0f} s", flush=True)
    figures = learner.judge(Lakeland("val", RECIPE["size"], RECIPE["difficulty"], JUDGED))
    print(f"{file.stem}:", ", ".join(f"{name} {100 * value:.1f}" for name, value in figures.items()), flush=True)
    return {"losses": [float(f"{loss:.6g}") for loss in losses], "seconds": round(seconds),
            "figures": {name: round(value, 4) for name, value in figures.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/five_minutes"))
    parser.add_argument("--only", choices=("library", "frame"))
    parser.add_argument("--write", action="store_true", help="make data/five_minutes.json")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found = {name: run(learner(), options.out / f"{name}.pt")
             for name, learner in (("library", Library), ("frame", Frame)) if options.only in (None, name)}
    if options.write and not options.only:
        lines = ",\n".join(f'"{name}": {json.dumps(found.get(name, RECIPE))}' for name in ("recipe", *found))
        (ROOT / "data" / "five_minutes.json").write_text(f"{{{lines}}}\n")


if __name__ == "__main__":
    main()

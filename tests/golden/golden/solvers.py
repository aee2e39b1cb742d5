"""Solvers of diffusers over a synthetic model: timesteps, noise levels and trajectories.

The model is out = c0 · scale_model_input(x) + c1 · sin(t) + c2 · w; where a class wants a predicted variance, its
channels are those of `w` beyond the sample's. Noise is an input: step i uses `noise[i]`. Where diffusers has no
class (DMD and rCM), the update is written out from its equations.
"""

import importlib
import json
import math

import diffusers
import torch
from safetensors.torch import save_file

from .common import fresh, generator, normal

SHAPE = (1, 2, 3, 2, 2)
MOST_STEPS = 30
COEFFICIENTS = [0.31, 0.2, 0.7]

SD = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
ZERO_SNR = dict(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
PLAIN = dict(clip_sample=False)
WAN = dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
COG = dict(ZERO_SNR, beta_schedule="scaled_linear", snr_shift_scale=3.0, set_alpha_to_one=True)
SVD = dict(SD, prediction_type="v_prediction", interpolation_type="linear", use_karras_sigmas=True, sigma_min=0.002,
           sigma_max=700.0, timestep_type="continuous", timestep_spacing="leading", steps_offset=1)


def case(cls: str, steps: int, config: dict | None = None, **arguments) -> dict:
    return dict(cls=cls, config=config or {}, arguments=dict(num_inference_steps=steps, **arguments))


FLOW, UNIPC, DPM = "FlowMatchEulerDiscreteScheduler", "UniPCMultistepScheduler", "DPMSolverMultistepScheduler"
DDIM, DDPM, LCM, EULER = "DDIMScheduler", "DDPMScheduler", "LCMScheduler", "EulerDiscreteScheduler"
COG_DDIM, COG_DPM, MAP = "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "FlowMapEulerDiscreteScheduler"

CASES = {
    "flow_euler": case(FLOW, 7, dict(shift=3.0)),
    "flow_euler_shift8": case(FLOW, 7, dict(shift=8.0)),
    "flow_euler_dynamic": case(FLOW, 8, dict(use_dynamic_shifting=True, shift_terminal=0.1), mu=1.1),
    "flow_euler_sampled": case(FLOW, 4, dict(shift=5.0, stochastic_sampling=True)),
    "unipc_wan": case(UNIPC, 20, WAN),
    "unipc_wan_720": case(UNIPC, 30, dict(WAN, flow_shift=5.0)),
    "unipc_order1": case(UNIPC, 6, dict(WAN, solver_order=1)),
    "unipc_order3": case(UNIPC, 12, dict(WAN, solver_order=3)),
    "unipc_order3_shift8": case(UNIPC, 9, dict(WAN, solver_order=3, flow_shift=8.0)),
    "unipc_bh1": case(UNIPC, 10, dict(WAN, solver_type="bh1", final_sigmas_type="sigma_min")),
    "unipc_bh1_order3": case(UNIPC, 12, dict(WAN, solver_type="bh1", solver_order=3, final_sigmas_type="sigma_min")),
    "unipc_corrector_off": case(UNIPC, 8, dict(WAN, disable_corrector=[0, 1, 4])),
    "unipc_few": case(UNIPC, 2, dict(WAN, solver_order=3)),
    "unipc_one": case(UNIPC, 1, WAN),
    "unipc_dynamic": case(UNIPC, 8, dict(WAN, use_dynamic_shifting=True), mu=0.9),
    "unipc_default": case(UNIPC, 10),
    "unipc_v_trailing": case(UNIPC, 12, dict(SD, **ZERO_SNR)),
    "unipc_leading": case(UNIPC, 11, dict(SD, timestep_spacing="leading", steps_offset=1)),
    "unipc_karras": case(UNIPC, 9, dict(SD, use_karras_sigmas=True)),
    "unipc_sample": case(UNIPC, 8, dict(prediction_type="sample", lower_order_final=True)),
    "dpm_flow": case(DPM, 12, WAN),
    "dpm_flow_20": case(DPM, 20, dict(WAN, flow_shift=5.0)),
    "dpm_flow_order3": case(DPM, 16, dict(WAN, solver_order=3)),
    "dpm_flow_order1": case(DPM, 5, dict(WAN, solver_order=1)),
    "dpm_flow_heun": case(DPM, 10, dict(WAN, solver_type="heun")),
    "dpm_default": case(DPM, 10),
    "dpm_vp": case(DPM, 15, SD),
    "dpm_vp_order3": case(DPM, 10, dict(SD, solver_order=3)),
    "dpm_v_zero_snr": case(DPM, 8, dict(SD, **ZERO_SNR)),
    "dpm_karras": case(DPM, 10, dict(SD, use_karras_sigmas=True)),
    "dpm_final_sigma_min": case(DPM, 10, dict(SD, final_sigmas_type="sigma_min", euler_at_final=True)),
    "dpm_cosine": case(DPM, 9, dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1)),
    "dpm_leading": case(DPM, 9, dict(SD, timestep_spacing="leading", steps_offset=1)),
    "dpm_sde": case(DPM, 9, dict(SD, algorithm_type="sde-dpmsolver++")),
    "ddim_default": case(DDIM, 10),
    "ddim_epsilon": case(DDIM, 10, dict(SD, **PLAIN, steps_offset=1, set_alpha_to_one=False)),
    "ddim_v_zero_snr": case(DDIM, 7, dict(SD, **PLAIN, **ZERO_SNR)),
    "ddim_sample_linspace": case(DDIM, 9, dict(PLAIN, prediction_type="sample", timestep_spacing="linspace")),
    "ddim_trailing_odd": case(DDIM, 7, dict(PLAIN, timestep_spacing="trailing")),
    "ddim_eta": case(DDIM, 8, dict(SD, **PLAIN), eta=0.6),
    "ddim_eta_one": case(DDIM, 6, dict(PLAIN, prediction_type="v_prediction"), eta=1.0),
    "ddim_clipped": case(DDIM, 8, dict(clip_sample=True, clip_sample_range=0.7, prediction_type="v_prediction"), eta=0.3),
    "ddim_cosine": case(DDIM, 8, dict(PLAIN, beta_schedule="squaredcos_cap_v2")),
    "ddpm_small": case(DDPM, 12, dict(PLAIN)),
    "ddpm_clipped": case(DDPM, 10, dict(variance_type="fixed_small_log", prediction_type="v_prediction")),
    "ddpm_large": case(DDPM, 10, dict(PLAIN, variance_type="fixed_large", timestep_spacing="trailing")),
    "ddpm_learned": case(DDPM, 9, dict(PLAIN, variance_type="learned")),
    "ddpm_learned_range": case(DDPM, 9, dict(PLAIN, variance_type="learned_range", timestep_spacing="linspace")),
    "ddpm_sigmoid": case(DDPM, 8, dict(PLAIN, beta_schedule="sigmoid", prediction_type="sample")),
    "cogvideox_ddim": case(COG_DDIM, 10, COG),
    "cogvideox_ddim_50": case(COG_DDIM, 30, dict(COG, snr_shift_scale=1.0)),
    "cogvideox_ddim_default": case(COG_DDIM, 8),
    "cogvideox_dpm": case(COG_DPM, 10, COG),
    "cogvideox_dpm_odd": case(COG_DPM, 7, dict(COG, snr_shift_scale=1.0)),
    "cogvideox_dpm_default": case(COG_DPM, 9),
    "lcm": case(LCM, 4),
    "lcm_v": case(LCM, 5, dict(prediction_type="v_prediction", clip_sample=True, original_inference_steps=100)),
    "euler_svd": case(EULER, 25, SVD),
    "euler_default": case(EULER, 10),
    "euler_epsilon_leading": case(EULER, 8, dict(SD, timestep_spacing="leading", steps_offset=1)),
    "euler_trailing_v": case(EULER, 7, dict(SD, **ZERO_SNR)),
    "flow_map": case(MAP, 4, dict(shift=5.0)),
    "flow_map_8": case(MAP, 8, dict(shift=5.0)),
    "dmd_fastwan": case("DMDScheduler", 3, {}, timesteps=[1000.0, 757.0, 522.0]),
    "dmd_self_forcing": case("DMDScheduler", 4, dict(shift=5.0), sigmas=[1.0, 0.75, 0.5, 0.25]),
    "rcm": case("RCMScheduler", 4, dict(sigma_max=80.0)),
    "rcm_2": case("RCMScheduler", 2, dict(sigma_max=80.0)),
}
LEARNED = ("learned", "learned_range")


class FreshNoise:
    """x ← (1 − σ')·clean + σ'·noise with clean = x − σ·v: distribution matching distillation and rCM."""

    def __init__(self, sigmas: list[float]):
        self.sigmas = torch.tensor(sigmas + [0.0], dtype=torch.float64)
        self.timesteps = (1000 * self.sigmas[:-1]).float()

    def loop(self, x: torch.Tensor, model, noise: torch.Tensor):
        yield x
        for i, t in enumerate(self.timesteps):
            sigma, after = self.sigmas[i], self.sigmas[i + 1]
            clean = x - sigma * model(x, t)
            x = (1 - after) * clean + after * noise[i]
            yield x


def from_equations(run: dict) -> FreshNoise:
    config, arguments = run["config"], run["arguments"]
    if run["cls"] == "RCMScheduler":
        times = [math.atan(config["sigma_max"]), 1.5, 1.4, 1.0][: arguments["num_inference_steps"]]
        return FreshNoise([math.sin(t) / (math.sin(t) + math.cos(t)) for t in times])
    levels = arguments.get("sigmas") or [t / 1000 for t in arguments["timesteps"]]
    shift = config.get("shift", 1.0)
    return FreshNoise([shift * u / (1 + (shift - 1) * u) for u in levels])


def drive(scheduler, run: dict, x: torch.Tensor, model, noise: torch.Tensor):
    """The samples of a run of a class of diffusers."""
    arguments = dict(run["arguments"])
    eta = arguments.pop("eta", None)
    scheduler.set_timesteps(**arguments)
    if run["cls"] == EULER:
        x = x * scheduler.init_noise_sigma
    module = importlib.import_module(type(scheduler).__module__)
    scale = getattr(scheduler, "scale_model_input", lambda x, _: x)
    yield x
    previous, back = None, None
    for i, t in enumerate(scheduler.timesteps):
        module.randn_tensor = lambda *_, **__: noise[i]
        out = model(scale(x, t), t)
        if run["cls"] == COG_DPM:
            x, previous = scheduler.step(out, previous, t, back, x, return_dict=False)
            back = t
        else:
            extra = {} if eta is None else dict(eta=eta)
            x = scheduler.step(out, t, x, return_dict=False, **extra)[0]
        yield x


def generate() -> None:
    folder = fresh("solver")
    gen = generator(900)
    sample, w = normal(gen, *SHAPE), normal(gen, *SHAPE)
    variance = torch.rand(SHAPE, generator=gen)
    noise = normal(gen, MOST_STEPS, *SHAPE)
    save_file(dict(sample=sample, w=w, variance=variance, noise=noise, coefficients=torch.tensor(COEFFICIENTS)),
              folder / "inputs.safetensors")
    c0, c1, c2 = torch.tensor(COEFFICIENTS)
    described = {}
    for name, run in CASES.items():
        learned = run["config"].get("variance_type") in LEARNED

        def model(x, t):
            out = (c0 * x + c1 * math.sin(float(torch.as_tensor(t, dtype=torch.float32))) + c2 * w).to(x.dtype)
            return torch.cat([out, variance], dim=1) if learned else out

        kind = getattr(diffusers, run["cls"], None)
        if kind is None:
            scheduler = from_equations(run)
            trajectory = list(scheduler.loop(sample.double(), model, noise))
        else:
            scheduler = kind(**run["config"])
            trajectory = list(drive(scheduler, run, sample, model, noise))
        table = "alphas_cumprod" if hasattr(scheduler, "alphas_cumprod") and not hasattr(scheduler, "sigmas") else "sigmas"
        expected = dict(timesteps=scheduler.timesteps, trajectory=torch.stack(trajectory).float(),
                        **{table: getattr(scheduler, table)})
        expected = {key: value.to(torch.float32).contiguous() for key, value in expected.items()}
        if not all(torch.isfinite(value).all() for value in expected.values()):
            raise ValueError(f"{name} is not finite")
        if table == "alphas_cumprod":
            expected[table] = expected[table][::111].contiguous()
        save_file(expected, folder / f"expected_{name}.safetensors")
        described[name] = dict(config={"_class_name": run["cls"]} | run["config"], arguments=run["arguments"])
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(run)}" for name, run in described.items())
    (folder / "cases.json").write_text(f"{{\n{rows}\n}}\n")

"""Every choice that defines the model and its data; nothing here depends on the machine."""

from pathlib import Path

SIZE = 128  # pixels, width and height of a clip
FRAMES = 17  # frames of a clip: one for the first latent frame, then four for each other
LENGTHS = (1, 9, 17, 25)  # frames the transformer learns to draw
# Height and width it learns, multiples of a token's 32 x 32 pixels.
SHAPES = {
    "square": (128, 128),
    "wide": (96, 160),
    "tall": (160, 96),
    "landscape": (128, 192),
    "portrait": (192, 128),
    "upright": (128, 96),
    "large": (192, 160),
    "strip": (96, 224),
}
FPS = 12  # the sources play at 24 fps; every second frame is kept
SOURCE_STRIDE = 2

# Backgrounds, sRGB. The names are the words used in prompts.
COLORS = {
    "white": (255, 255, 255),
    "black": (24, 24, 28),
    "blue": (37, 99, 235),
    "red": (220, 48, 44),
    "green": (46, 168, 88),
    "yellow": (252, 211, 60),
    "pink": (255, 150, 185),
    "purple": (126, 70, 200),
}

VAE = dict(
    latent_channels=32,
    block_out_channels=(48, 96, 128),
    down_block_types=("LTXVideo095DownBlock3D",) * 2,
    spatio_temporal_scaling=(True, True),
    layers_per_block=(0, 1, 2),
    downsample_type=("spatiotemporal",) * 2,
    decoder_block_out_channels=(64, 128),
    decoder_spatio_temporal_scaling=(True, True),
    decoder_layers_per_block=(1, 1, 2),
    decoder_inject_noise=(False,) * 3,
    upsample_residual=(True, True),
    upsample_factor=(1, 2),
    timestep_conditioning=False,
    patch_size=4,
    encoder_causal=True,
    decoder_causal=False,
)

TEXT_TOKENS = 24  # prompts are padded to this many tokens; longer ones are cut

PACKING = (1, 2, 2)  # latent frames, rows and columns in one token
COORDINATE_CHANNELS = 15
DIT = dict(
    in_channels=VAE["latent_channels"] * 4 + COORDINATE_CHANNELS,
    out_channels=VAE["latent_channels"] * 4,
    num_attention_heads=4,
    attention_head_dim=64,
    cross_attention_dim=256,
    num_layers=8,
    caption_channels=384,
)

HELD_OUT_NAMES = 60  # clips the autoencoder never trains on
SEED = 20260

HERE = Path(__file__).parent
ROOT = HERE.parent

"""The reference paper's way: ImageDataGenerator, resized and preprocessed by Keras, and model.predict."""

import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import pandas as pd
import tensorflow as tf

backbone, size, out, weights, listing = sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]
files = Path(listing).read_text().split("\n")
module, builder = {
    "densenet121": (tf.keras.applications.densenet, tf.keras.applications.DenseNet121),
    "resnet50": (tf.keras.applications.resnet, tf.keras.applications.ResNet50),
}[backbone]
model = builder(include_top=False, weights=None, pooling="avg", input_shape=(size, size, 3))
model.load_weights(weights)
generator = tf.keras.preprocessing.image.ImageDataGenerator(preprocessing_function=module.preprocess_input)


def run(files):
    flow = generator.flow_from_dataframe(
        pd.DataFrame({"filename": files}),
        x_col="filename",
        class_mode=None,
        target_size=(size, size),
        batch_size=16,
        shuffle=False,
        validate_filenames=False,
    )
    return model.predict(flow, verbose=0)


run(files[: 32 + len(files) % 16])  # traced and warm, also for the last batch, which is not full
begun = time.perf_counter()
embeddings = run(files)
np.save(out, embeddings)
seconds = time.perf_counter() - begun
# The same network on the same pixels as ours, for the values.
pixels = np.load(sys.argv[6])
rgb = np.repeat(pixels[..., None], 3, axis=-1).astype(np.float32)
np.save(out.replace(".npy", ".check.npy"), model.predict(module.preprocess_input(rgb), batch_size=16, verbose=0))
print(json.dumps({"seconds": seconds, "images": len(files)}))

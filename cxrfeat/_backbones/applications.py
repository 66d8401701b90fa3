"""Every network of `keras.applications` as an entry's fields, one line each; a test compares them with Keras's own.

The default size is Keras's own. The embedding is the last map; preprocessing is that of the network's family.
"""

from __future__ import annotations

from typing import Any

_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"
_V2, _B = "efficientnet_v2/efficientnetv2-", "https://storage.googleapis.com/keras-applications/efficientnetb"
_TF = "_weights_tf_dim_ordering_tf_kernels_notop.h5"

# builder: dim, default size, file of the ImageNet weights, its hash; where Keras stores it under another name, `#name`.
_FAMILIES: tuple[tuple[str, int, dict[str, tuple[int, int, str, str]]], ...] = (
    ("torch", 32, {
        "DenseNet121": (1024, 224, f"densenet/densenet121{_TF}", "md5:30ee3e1110167f948a6b9946edeeb738"),
        "DenseNet169": (1664, 224, f"densenet/densenet169{_TF}", "md5:b8c4d4c20dd625c148057b9ff1c1176b"),
        "DenseNet201": (1920, 224, f"densenet/densenet201{_TF}", "md5:c13680b51ded0fb44dff2d8f86ac8bb1"),
    }),
    ("caffe", 32, {
        "ResNet50": (2048, 224, f"resnet/resnet50{_TF}", "md5:4d473c1dd8becc155b73f8504c6f6626"),
        "ResNet101": (2048, 224, f"resnet/resnet101{_TF}", "md5:88cf7a10940856eca736dc7b7e228a21"),
        "ResNet152": (2048, 224, f"resnet/resnet152{_TF}", "md5:ee4c566cf9a93f14d82f913c2dc6dd0c"),
        "VGG16": (512, 224, f"vgg16/vgg16{_TF}", "md5:6d6bbae143d832006294945121d1f1fc"),
        "VGG19": (512, 224, f"vgg19/vgg19{_TF}", "md5:253f8cb515780f3b799900260a226db6"),
    }),
    ("tf", 32, {
        "ResNet50V2": (2048, 224, f"resnet/resnet50v2{_TF}", "md5:fac2f116257151a9d068a22e544a4917"),
        "ResNet101V2": (2048, 224, f"resnet/resnet101v2{_TF}", "md5:c0ed64b8031c3730f411d2eb4eea35b5"),
        "ResNet152V2": (2048, 224, f"resnet/resnet152v2{_TF}", "md5:ed17cf2e0169df9d443503ef94b23b33"),
        "MobileNet": (1024, 224, "mobilenet/mobilenet_1_0_224_tf_no_top.h5", ""),
        "MobileNetV2": (1280, 224, f"mobilenet_v2/mobilenet_v2{_TF.replace('notop', '1.0_224_no_top')}", ""),
        "NASNetMobile": (1056, 224, "nasnet/NASNet-mobile-no-top.h5#nasnet_mobile_no_top.h5",
                         "md5:1ed92395b5b598bdda52abe5c0dbfd63"),
        "NASNetLarge": (4032, 331, "nasnet/NASNet-large-no-top.h5#nasnet_large_no_top.h5",
                        "md5:d81d89dc07e6e56530c4e77faddd61b5"),
    }),
    ("tf", 71, {
        "Xception": (2048, 299, f"xception/xception{_TF}", "md5:b0042744bf5b25fce3cb969f33bebb97"),
    }),
    ("tf", 75, {
        "InceptionV3": (2048, 299, f"inception_v3/inception_v3{_TF}", "md5:bcbd6486424b2319ff4ef7d526e38f63"),
        "InceptionResNetV2": (1536, 299, f"inception_resnet_v2/inception_resnet_v2{_TF}",
                              "md5:d19885ff4a710c122648d3b5c3b684e4"),
    }),
    ("raw", 32, {
        "EfficientNetV2B0": (1280, 224, f"{_V2}b0_notop.h5", "md5:893217f2bb855e2983157299931e43ff"),
        "EfficientNetV2B1": (1280, 240, f"{_V2}b1_notop.h5", "md5:0e80663031ca32d657f9caa404b6ec37"),
        "EfficientNetV2B2": (1408, 260, f"{_V2}b2_notop.h5", "md5:1dfe2e7a5d45b6632553a8961ea609eb"),
        "EfficientNetV2B3": (1536, 300, f"{_V2}b3_notop.h5", "md5:f6abf7b5849ac99a89b50dd3fd532856"),
        "EfficientNetV2S": (1280, 384, f"{_V2}s_notop.h5", "md5:af0682fb74e8c54910f2d4393339c070"),
        "EfficientNetV2M": (1280, 480, f"{_V2}m_notop.h5", "md5:1b8dc055df72dde80d614482840fe342"),
        "EfficientNetV2L": (1280, 480, f"{_V2}l_notop.h5", "md5:b0b66b5c863aef5b46e8608fe1711615"),
        "EfficientNetB0": (1280, 224, f"{_B}0_notop.h5", "md5:50bc09e76180e00e4465e1a485ddc09d"),
        "EfficientNetB1": (1280, 240, f"{_B}1_notop.h5", "md5:74c4e6b3e1f6a1eea24c589628592432"),
        "EfficientNetB2": (1408, 260, f"{_B}2_notop.h5", "md5:111f8e2ac8aa800a7a99e3239f7bfb39"),
        "EfficientNetB3": (1536, 300, f"{_B}3_notop.h5", "md5:af6d107764bb5b1abb91932881670226"),
        "EfficientNetB4": (1792, 380, f"{_B}4_notop.h5", "md5:ebc24e6d6c33eaebbd558eafbeedf1ba"),
        "EfficientNetB5": (2048, 456, f"{_B}5_notop.h5", "md5:38879255a25d3c92d5e44e04ae6cec6f"),
        "EfficientNetB6": (2304, 528, f"{_B}6_notop.h5", "md5:9ecce42647a20130c1f39a5d4cb75743"),
        "EfficientNetB7": (2560, 600, f"{_B}7_notop.h5", "md5:cbcfe4450ddf6f3ad90b1b398090fe4a"),
        "ConvNeXtTiny": (768, 224, "convnext/convnext_tiny_notop.h5",
                         "sha256:d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1"),
        "ConvNeXtSmall": (768, 224, "convnext/convnext_small_notop.h5",
                          "sha256:6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab"),
        "ConvNeXtBase": (1024, 224, "convnext/convnext_base_notop.h5",
                         "sha256:40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45"),
        "ConvNeXtLarge": (1536, 224, "convnext/convnext_large_notop.h5",
                          "sha256:96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd"),
        "ConvNeXtXLarge": (2048, 224, "convnext/convnext_xlarge_notop.h5",
                           "sha256:de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05"),
        "MobileNetV3Small": (576, 224, "mobilenet_v3/weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
                             "md5:d3e8ec802a04aa4fc771ee12a9a9b836"),
        "MobileNetV3Large": (960, 224, "mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
                             "md5:07fb09a5933dd0c8eaafa16978110389"),
    }),
)  # fmt: skip

_MORE: dict[str, dict[str, Any]] = {
    "DenseNet121": {"layer": "relu", "first_centre": 14.0},
    "ResNet50": {"layer": "conv5_block3_out", "first_centre": 0.0},
}
"""What recipes and tables of these two have said from the first release on."""

ENTRIES: dict[str, dict[str, Any]] = {
    builder.lower(): {
        "builder": f"keras.applications:{builder}",
        "dim": dim,
        "preprocessing": preprocessing,
        "size": size,
        "min_size": smallest,
        "weights_url": file if file.startswith("https:") else _KERAS + file,
        "weights_hash": sha,
        **_MORE.get(builder, {}),
    }
    for preprocessing, smallest, members in _FAMILIES
    for builder, (dim, size, file, sha) in members.items()
}
"""By the name that users type, which is the builder's in small letters."""

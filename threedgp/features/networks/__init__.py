"""Feature networks, one file each; the file name is a value of `features.network` or `embed.network`.

`timm` stands for all models of timm, which are named in the settings themselves. Files with `_` hold shared code.
"""

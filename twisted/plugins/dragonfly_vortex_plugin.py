"""
Make ``twistd dfvortex`` known. Twisted imports this module to list its plugins, and hides it without a word
if that fails: it only names things.
"""

from __future__ import annotations

from twisted.application.service import ServiceMaker

dragonfly_vortex = ServiceMaker(
    "Dragonfly Vortex",
    "dragonfly_vortex.tap",
    "A peer that serves pieces over Dragonfly's Vortex protocol.",
    "dfvortex",
)

"""Tests of downloads of whole tasks: the plan alone, and the download over real files with parents played in memory."""

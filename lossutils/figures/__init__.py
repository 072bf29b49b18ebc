"""The figures, explorables and labs of each chapter: how they look. What they show is computed in the chapter.

Chapter NN's are in ``chapterNN``; what several chapters draw with is in `lossutils.plotting`.
"""

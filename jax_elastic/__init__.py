"""Image classifiers that are trained once and run at many costs."""

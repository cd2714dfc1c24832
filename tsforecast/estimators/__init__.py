"""scikit-learn estimators around recurrent networks, and the window around any estimator."""

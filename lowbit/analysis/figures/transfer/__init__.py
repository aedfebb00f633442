"""Figures of the transfer study: pretraining in full precision and mixup, against training from scratch."""

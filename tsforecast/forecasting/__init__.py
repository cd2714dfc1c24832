"""Forecasting of one or many series: frames in, frames out."""
